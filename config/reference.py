"""The API's description for programs and for people."""

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView


class Schema(SpectacularAPIView):
    """The description itself, as YAML, or JSON where that is asked for."""


@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class Reference(SpectacularSwaggerSplitView):
    """The description for people, from our own static files. Its program styles what it draws, so this page alone may."""

    template_name = "config/reference.html"
