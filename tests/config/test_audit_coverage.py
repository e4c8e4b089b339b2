"""Every door by which something changes leaves a line in the audit trail, or says here why it need not."""

import ast
import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.urls import URLPattern, get_resolver
from rest_framework.views import APIView

from accounts import events
from accounts.admin.base import AuditedAdmin, ReadOnlyAdmin
from accounts.roles import Role
from tests.factories import MembershipFactory

BASE_DIR = Path(__file__).resolve().parents[2]
OURS = ("accounts", "billing", "config", "jobs", "webhooks")

# What each writing door of the API leaves, by its view; None with the reason that it leaves nothing.
API = {
    "Activate": "user.updated",
    "ApprovalRuleDetail": "approval_rule.updated",
    "ApprovalRules": "approval_rule.created",
    "Approve": "job.approved",
    "AuditExportConfig": "config.changed",
    "Avatar": None,  # answers that there are no pictures
    "BillingRefresh": None,  # answers that there is no balance to be had
    "BulkApprove": "job.approved",
    "BulkReject": "job.rejected",
    "CancelApproval": "job.cancelled",
    "CheckStale": None,  # reckons which are old
    "Config": "config.changed",
    "Concurrency": "config.changed",
    "ConfigActivate": "config.activated",
    "ConfigCopy": "config.created",
    "ConfigFromTemplate": "config.created",
    "ConfigImport": "config.created",
    "ConfigRename": "config.changed",
    "ConfigValidate": None,  # checks, and keeps nothing
    "Configs": "config.created",
    "ConsentPreview": None,  # says what would be uploaded, and keeps nothing
    "ConsentSetting": "config.changed",
    "CostEstimate": None,  # reckons, and keeps nothing
    "CredentialSettings": "config.changed",
    "DeliveriesReplay": "webhook.replayed",
    "DeliveryRelease": "webhook.released",
    "DeliveryReplay": "webhook.replayed",
    "DatasetList": "dataset.created",
    "DatasetVersions": "dataset.created",
    "Deactivate": "user.updated",
    "EnableRecommended": "config.changed",
    "Expire": "job.expired",
    "ExternalNotOffered": None,  # answers that the sign-in page does it
    "FirstAdmin": "user.created",
    "HintDismiss": None,  # a person's own view
    "HintShow": None,  # the same
    "InlineValidate": None,  # checks, and keeps nothing
    "JobCancel": "job.cancelled",
    "JobDeliveriesCheck": "delivery.asked",
    "JobDetail": "job.deleted",
    "JobRetry": "job.retried",
    "JobStopTime": "job.stop_time_moved",
    "JobSync": None,  # asks the provider; what it says leaves lines of its own
    "Key": "api_key.revoked",
    "KeyRotation": "api_key.rotated",
    "Keys": "api_key.created",
    "LevelDetail": None,  # answers that the levels are given
    "LevelPermissions": None,  # the same
    "LevelRule": "config.changed",
    "LevelRules": "config.changed",
    "Levels": None,  # the same
    "Login": "auth.login.success",
    "Logout": "auth.logout",
    "MemberCredential": "credential.deleted",
    "MemberCredentials": "credential.created",
    "MemberRotation": "credential.deleted",
    "OrganizationDetail": "config.changed",
    "OrganizationMember": None,  # answers that whoever has an account is a member
    "OrganizationQuotas": "quota.changed",
    "Organizations": None,  # answers that there is one
    "Password": "user.password.changed",
    "People": "user.created",
    "Person": "user.updated",
    "PersonLevel": "user.level.changed",
    "PersonLevels": "user.level.changed",
    "PersonPermission": None,  # answers that a level gives permissions
    "PersonPermissions": None,  # the same
    "PollingSetting": None,  # answers that polling is always on
    "Profile": "user.updated",
    "ProviderAdvanced": "provider.configured",
    "ProviderConfig": "provider.configured",
    "ProviderTestS3": None,  # asks, and keeps nothing
    "ProviderToken": "token.saved",
    "QuotaCostEstimate": None,  # reckons, and keeps nothing
    "QuotaDetail": "quota.changed",
    "Quotas": "quota.changed",
    "QueueApprove": "job.approved",
    "QueueCancel": "job.cancelled",
    "QueueCleanup": "queue.cleaned",
    "QueueModes": "queue.mode_changed",
    "QueuePollingSetting": None,  # answers that polling is always on
    "QueuePriority": "job.priority_changed",
    "QueueProcess": None,  # does at once what is done every two seconds anyway
    "QueueReject": "job.rejected",
    "QueueStart": "job.start_moved",
    "QueueSubmit": "job.submitted",
    "Register": "user.created",
    "RegistrationSettings": "config.changed",
    "Reject": "job.rejected",
    "Rule": "config.changed",
    "Rules": "config.changed",
    "SubmitJob": "job.submitted",
    "TeamDetail": "team.updated",
    "TeamMember": "user.level.changed",
    "TeamMembers": "member.added",
    "TeamQuotas": "quota.changed",
    "Teams": "team.created",
    "TestAddress": "webhook.check_started",
    "TestWebhook": None,  # asks, and keeps nothing
    "TestWebhookFromOutside": "webhook.check_started",
    "TopUps": "quota.topped_up",
    "ValidateOwnCredential": None,  # asks, and changes nothing of anybody's
}
# The same of pages, by the name of their address.
PAGES = {
    "billing:limit_change": "quota.changed",
    "billing:limit_new": "quota.changed",
    "billing:limit_top_up": "quota.topped_up",
    "billing:limit_try_alert": "spend_alert.tried",
    "invite_change": "invite.revoked",
    "jobs:approval_cancel": "job.cancelled",
    "jobs:approval_rule": "approval_rule.updated",
    "jobs:approval_rule_delete": "approval_rule.deleted",
    "jobs:approval_rule_new": "approval_rule.created",
    "jobs:approval_rule_suggested": "approval_rule.created",
    "jobs:approve": "job.approved",
    "jobs:bucket_remove": "credential.deleted",
    "jobs:bucket_save": "credential.created",
    "jobs:bucket_test": None,  # asks, and keeps nothing
    "jobs:cancel": "job.cancelled",
    "jobs:cancel_several": "job.cancelled",
    "jobs:check_delivery": "delivery.asked",
    "jobs:config_activate": "config.activated",
    "jobs:config_copy": "config.created",
    "jobs:config_delete": "config.deleted",
    "jobs:config_edit": "config.changed",
    "jobs:config_new": "config.created",
    "jobs:credential_remove": "credential.deleted",
    "jobs:credential_save": "credential.created",
    "jobs:credential_validate": None,  # asks the provider; what it says is no change of anybody's
    "jobs:dataset_add": "dataset.created",
    "jobs:dataset_new": "dataset.created",
    "jobs:delete": "job.deleted",
    "jobs:hub_validate": None,  # asks the Hub; what it says is no change of anybody's
    "jobs:network": "provider.configured",
    "jobs:network_try": None,  # asks, and keeps nothing
    "jobs:new": "job.submitted",
    "jobs:own_credential_remove": "credential.deleted",
    "jobs:own_credential_save": "credential.created",
    "jobs:own_credential_validate": None,  # asks the provider; what it says is no change of anybody's
    "jobs:queue_mode": "queue.mode_changed",
    "jobs:queue_numbers": "config.changed",
    "jobs:queue_priority": "job.priority_changed",
    "jobs:quota_change": "quota.changed",
    "jobs:quota_new": "quota.changed",
    "jobs:quotas_suggested": "quota.changed",
    "jobs:reject": "job.rejected",
    "jobs:results_settings": "provider.configured",
    "jobs:retry": "job.retried",
    "jobs:start": "job.start_moved",
    "jobs:stop_time": "job.stop_time_moved",
    "jobs:sync": "job.imported",
    "jobs:team_archive": "team.archived",
    "member_change": "user.level.changed",
    "member_hand_over": "user.level.changed",
    "member_invite": "invite.created",
    "member_leave": "member.removed",
    "team_general": "team.updated",
    "token_limit": "quota.changed",
    "token_new": "api_key.created",
    "token_revoke": "api_key.revoked",
    "token_rotate": "api_key.rotated",
    "webhooks:inbox-delivery-release": "webhook.released",
    "webhooks:inbox-delivery-replay": "webhook.replayed",
    "webhooks:inbox-replay": "webhook.replayed",
    "webhooks:ranges": "provider.configured",
    "webhooks:settings": "provider.configured",
    "webhooks:settings-test": "webhook.check_started",
}


def routes(patterns=None, before="", namespace=""):
    """Every address below a list of patterns, with its path, its name and its view."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield path, f"{namespace}{pattern.name}", pattern.callback
        else:
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from routes(pattern.url_patterns, path, inner)


def test_every_writing_door_of_the_api_says_what_it_leaves():
    views = {getattr(callback, "cls", None) for _, _, callback in routes()} - {None}
    writing = {view.__name__ for view in views if issubclass(view, APIView) and {"post", "put", "patch", "delete"} & {*vars(view)}}

    assert writing == set(API)
    assert {event for event in API.values() if event} <= set(events.ALL)


@pytest.mark.django_db
def test_every_page_that_can_be_sent_says_what_it_leaves(client):
    owner = MembershipFactory(role=Role.OWNER)
    client.force_login(owner.user)
    writing = set()
    for path, name, _ in routes():
        if path.startswith("t/<slug:team>/"):
            filled = path.replace("<slug:team>", owner.team.slug).replace("<int:", "1<").replace("<slug:", "x<").replace("<str:", "x<")
            if client.post("/" + re.sub("<[a-z_]+>", "", filled)).status_code != 405:
                writing.add(name)

    assert writing == set(PAGES)
    assert {event for event in PAGES.values() if event} <= set(events.ALL)


def test_every_page_of_the_administration_only_reads_or_is_audited():
    ours = [each for each in admin.site._registry.values() if type(each).__module__.split(".")[0] in OURS]

    assert len(ours) > 20
    assert [each for each in ours if not isinstance(each, ReadOnlyAdmin | AuditedAdmin)] == []
    audited = {each.audited_as for each in ours if isinstance(each, AuditedAdmin)}
    assert {f"{name}.{done}" for name in audited for done in ("created", "updated")} <= set(events.ALL)


def test_every_event_that_the_code_writes_has_a_name_that_filters_know():
    written = {
        keyword.value.value
        for app in OURS
        for file in (BASE_DIR / app).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "event_type" and isinstance(keyword.value, ast.Constant)
    }

    assert len(written) > 20
    assert written - set(events.ALL) == set()
