"""The addresses of links in mails, which stand outside every team: whoever has one need not be signed in."""

from django.urls import path

from jobs import approval_views

urlpatterns = [path("approvals/by-mail/<str:signed>/", approval_views.by_mail, name="approval_by_mail")]
