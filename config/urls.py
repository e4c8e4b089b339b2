"""The address table of the whole installation."""

from django.contrib import admin
from django.urls import include, path, re_path

from config import health, reference

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("api/cloud/health/live", health.live),
    path("api/cloud/health/ready", health.ready),
    path("api/cloud/storage", include("jobs.storage.urls")),
    path("api/", include("jobs.api.urls")),
    re_path("^api/schema/?$", reference.Schema.as_view(), name="schema"),
    re_path("^api/docs/?$", reference.Reference.as_view(), name="reference"),
    path("", include("webhooks.urls")),
    path("t/<slug:team>/", include("jobs.urls")),
    path("t/<slug:team>/", include("billing.urls")),
    path("", include("accounts.urls")),
]
