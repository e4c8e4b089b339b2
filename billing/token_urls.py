"""The addresses of a team's API tokens, below /t/<team>/, in no namespace: tokens belong to accounts, and only their money to billing."""

from django.urls import path

from billing import token_views as views

urlpatterns = [
    path("settings/tokens/", views.token_list, name="tokens"),
    path("settings/tokens/new/", views.token_new, name="token_new"),
    path("settings/tokens/<int:token_id>/", views.token_detail, name="token"),
    path("settings/tokens/<int:token_id>/rotate/", views.token_rotate, name="token_rotate"),
    path("settings/tokens/<int:token_id>/limit/", views.token_limit, name="token_limit"),
    path("settings/tokens/<int:token_id>/revoke/", views.token_revoke, name="token_revoke"),
]
