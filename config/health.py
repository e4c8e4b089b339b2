"""Health of the process, for load balancers and for `manage.py up`."""

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from config.api import json_error


@login_not_required
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process answers. Never touches the database."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """The process can do its work: the database answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return json_error(request, status=503, detail="Not ready: the database cannot be reached.", code="not_ready")
    return JsonResponse({"status": "ready"})
