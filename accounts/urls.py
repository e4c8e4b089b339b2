"""The addresses of people and of what belongs to them; those of signing in are django-allauth's."""

from django.urls import path

from accounts import audit_views, invite_views, member_views, team_views, views

urlpatterns = [
    path("", views.home, name="home"),
    path("profile/", views.profile, name="profile"),
    path("language/", views.language, name="set_language"),
    path("teams/new/", team_views.new, name="team_new"),
    path("invites/<str:secret>/", invite_views.accept, name="invite"),
    path("t/<slug:team>/", views.team_home, name="team_home"),
    path("t/<slug:team>/members/", member_views.index, name="members"),
    path("t/<slug:team>/members/invite/", member_views.invite, name="member_invite"),
    path("t/<slug:team>/members/invites/<int:invite_id>/", member_views.invite_change, name="invite_change"),
    path("t/<slug:team>/members/leave/", member_views.leave, name="member_leave"),
    path("t/<slug:team>/members/<int:membership_id>/", member_views.change, name="member_change"),
    path("t/<slug:team>/members/<int:membership_id>/hand-over/", member_views.hand_over, name="member_hand_over"),
    path("t/<slug:team>/help/roles/", team_views.roles, name="roles"),
    path("t/<slug:team>/settings/", views.settings, name="settings"),
    path("t/<slug:team>/settings/general/", team_views.general, name="team_general"),
    path("t/<slug:team>/audit/", audit_views.index, name="audit"),
    path("t/<slug:team>/audit/verify/", audit_views.verify, name="audit_verify"),
    path("t/<slug:team>/audit/export/<slug:form>/", audit_views.export, name="audit_export"),
]
