"""The addresses of a team's jobs, datasets, money and provider settings, below /t/<team>/."""

from django.urls import path

from jobs import dataset_views, help_views, settings_views, spend_views, submit_views, views

app_name = "jobs"

urlpatterns = [
    path("jobs/", views.index, name="list"),
    path("jobs/new/", submit_views.new, name="new"),
    path("jobs/<str:job_id>/", views.detail, name="detail"),
    path("jobs/<str:job_id>/live/", views.live, name="live"),
    path("jobs/<str:job_id>/log.txt", views.log, name="log"),
    path("jobs/<str:job_id>/cancel/", views.cancel, name="cancel"),
    path("jobs/<str:job_id>/files/<int:artifact_id>/", views.download, name="download"),
    path("datasets/", dataset_views.index, name="datasets"),
    path("datasets/new/", dataset_views.new, name="dataset_new"),
    path("datasets/<int:dataset_id>/", dataset_views.detail, name="dataset"),
    path("datasets/<int:dataset_id>/add/", dataset_views.add, name="dataset_add"),
    path("datasets/pictures/<int:file_id>.jpg", dataset_views.thumbnail, name="thumbnail"),
    path("help/", help_views.page, name="help"),
    path("spend/", spend_views.index, name="spend"),
    path("spend/ledger.csv", spend_views.export, name="spend_export"),
    path("settings/credentials/", settings_views.credential_list, name="credentials"),
    path("settings/credentials/validate/", settings_views.credential_validate, name="credential_validate"),
    path("settings/credentials/<slug:kind>/save/", settings_views.credential_save, name="credential_save"),
    path("settings/credentials/<int:credential_id>/remove/", settings_views.credential_remove, name="credential_remove"),
    path("files/<str:signed>/<str:name>", views.file, name="file"),
]
