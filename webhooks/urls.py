"""The inbox's addresses: the documented one and the two by which SimpleTuner's other parts know it."""

from django.urls import re_path

from webhooks import views

app_name = "webhooks"

urlpatterns = [
    re_path(r"^api/webhooks/replicate/?$", views.replicate, name="replicate"),
    re_path(r"^api/cloud/webhooks?/replicate/?$", views.replicate),
]
