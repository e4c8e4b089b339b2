"""The address table of the whole installation."""

from allauth.socialaccount.views import login_error
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from accounts import views
from config import firstrun, health, reference
from jobs.admin import spend

handler400 = "config.errors.bad_request"
handler403 = "config.errors.forbidden"
handler404 = "config.errors.not_found"
handler429 = "config.errors.too_many_requests"
handler500 = "config.errors.server_error"

urlpatterns = [
    # Django's own form for one's password counts nobody's attempts.
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/spend/", admin.site.admin_view(spend.by_team), name="admin_spend"),
    path("admin/spend/<slug:by>.csv", admin.site.admin_view(spend.export), name="admin_spend_export"),
    path("admin/", admin.site.urls),
    # In the place of django-allauth's: whoever has no password here comes from the company's directory, and stays so.
    path("accounts/password/set/", views.password_elsewhere),
    # Who could not be let in is told so, and django-allauth asks them to sign in first.
    path("accounts/3rdparty/login/error/", login_not_required(login_error)),
    path("accounts/", include("allauth.urls")),
    path("setup/", firstrun.page, name="first_run"),
    re_path("^health/?$", health.overview),
    re_path("^api/cloud/health/?$", health.overview),
    re_path("^api/cloud/health/live/?$", health.live),
    re_path("^api/cloud/health/ready/?$", health.ready),
    re_path("^api/metrics/health/live/?$", health.live),
    re_path("^api/metrics/health/ready/?$", health.ready),
    path("api/cloud/storage", include("jobs.storage.urls")),
    path("api/", include("accounts.api.urls")),
    path("api/", include("billing.api.urls")),
    path("api/", include("jobs.api.urls")),
    re_path("^api/schema/?$", reference.Schema.as_view(), name="schema"),
    re_path("^api/docs/?$", reference.Reference.as_view(), name="reference"),
    path("", include("webhooks.urls")),
    path("", include("jobs.mail_urls")),
    path("t/<slug:team>/", include("jobs.urls")),
    path("t/<slug:team>/", include("billing.urls")),
    path("t/<slug:team>/", include("billing.token_urls")),
    path("", include("accounts.urls")),
]
