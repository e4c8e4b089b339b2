"""The addresses of a team's ledger and limits, below /t/<team>/."""

from django.urls import path

from billing import ledger_views, views

app_name = "billing"

urlpatterns = [
    path("ledger/", ledger_views.index, name="ledger"),
    path("ledger/lines.csv", ledger_views.lines_csv, name="ledger_lines"),
    path("ledger/verify/", ledger_views.verify, name="ledger_verify"),
    path("ledger/export/<slug:form>/", ledger_views.export, name="ledger_export"),
    path("ledger/<int:hold_id>/", ledger_views.hold, name="hold"),
    path("settings/limits/", views.limit_list, name="limits"),
    path("settings/limits/new/", views.limit_new, name="limit_new"),
    path("settings/limits/<int:limit_id>/", views.limit, name="limit"),
    path("settings/limits/<int:limit_id>/change/", views.limit_change, name="limit_change"),
    path("settings/limits/<int:limit_id>/top-up/", views.limit_top_up, name="limit_top_up"),
    path("settings/limits/<int:limit_id>/try-alert/", views.limit_try_alert, name="limit_try_alert"),
]
