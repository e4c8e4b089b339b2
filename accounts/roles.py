"""Who may do what: one table decides every right of a member and of a token."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Role(TextChoices):
    VIEWER = "viewer", _("Viewer")
    RESEARCHER = "researcher", _("Researcher")
    LEAD = "lead", _("Lead")
    OWNER = "owner", _("Owner")


class Right(TextChoices):
    """What a member may do in a team. The value is the word that views and templates ask with."""

    READ = "read", _("See the team's work")
    SUBMIT = "submit", _("Submit jobs")
    CANCEL_OWN = "cancel_own", _("Cancel and delete one's own jobs")
    CANCEL_ALL = "cancel_all", _("Cancel and delete the team's jobs")
    DATASETS = "datasets", _("Add datasets and configs")
    SPEND = "spend", _("See what the team spends")
    APPROVE = "approve", _("Approve jobs")
    AUDIT = "audit", _("Read the audit trail")
    TOKENS_OWN = "tokens_own", _("Make API tokens")
    MANAGE = "manage", _("Manage people, credentials, limits and settings")


class Scope(TextChoices):
    """What a token was made for; its rights are those of its scopes that its maker's role has as well."""

    READ = "read", _("Read")
    SUBMIT = "submit", _("Submit")
    CANCEL = "cancel", _("Cancel")
    DATASETS = "datasets", _("Datasets")
    BILLING = "billing", _("Billing")
    ADMIN = "admin", _("Admin")


_VIEWER = {Right.READ}
_RESEARCHER = _VIEWER | {Right.SUBMIT, Right.CANCEL_OWN, Right.DATASETS, Right.TOKENS_OWN}
_LEAD = _RESEARCHER | {Right.CANCEL_ALL, Right.SPEND, Right.APPROVE, Right.AUDIT}
_OWNER = _LEAD | {Right.MANAGE}

RIGHTS_OF_ROLE: dict[str, frozenset[Right]] = {
    Role.VIEWER: frozenset(_VIEWER),
    Role.RESEARCHER: frozenset(_RESEARCHER),
    Role.LEAD: frozenset(_LEAD),
    Role.OWNER: frozenset(_OWNER),
}

RIGHTS_OF_SCOPE: dict[str, frozenset[Right]] = {
    Scope.READ: frozenset({Right.READ}),
    Scope.SUBMIT: frozenset({Right.READ, Right.SUBMIT}),
    Scope.CANCEL: frozenset({Right.READ, Right.CANCEL_OWN, Right.CANCEL_ALL}),
    Scope.DATASETS: frozenset({Right.READ, Right.DATASETS}),
    Scope.BILLING: frozenset({Right.READ, Right.SPEND}),
    Scope.ADMIN: frozenset({Right.READ, Right.APPROVE, Right.AUDIT, Right.TOKENS_OWN, Right.MANAGE}),
}

# SimpleTuner's permission names and the right of ours that stands for each.
PERMISSIONS: dict[str, Right] = {
    "job.submit": Right.SUBMIT,
    "job.view.own": Right.READ,
    "job.view.all": Right.READ,
    "job.cancel.own": Right.CANCEL_OWN,
    "job.cancel.all": Right.CANCEL_ALL,
    "job.delete.own": Right.CANCEL_OWN,
    "job.delete.all": Right.CANCEL_ALL,
    "config.view": Right.READ,
    "config.create": Right.DATASETS,
    "config.edit.own": Right.DATASETS,
    "config.delete.own": Right.DATASETS,
    "queue.view": Right.READ,
    "queue.approve": Right.APPROVE,
    "quota.view": Right.SPEND,
    "quota.manage": Right.MANAGE,
    "admin.approve": Right.APPROVE,
    "admin.audit": Right.AUDIT,
    "admin.users": Right.MANAGE,
    "admin.config": Right.MANAGE,
    "team.view": Right.READ,
    "team.manage.members": Right.MANAGE,
    "api.access": Right.READ,
    "api.keys.own": Right.TOKENS_OWN,
    "api.keys.all": Right.MANAGE,
}


def rights_of(role: str) -> frozenset[Right]:
    """The rights of a member with this role; none for a role that we do not know."""
    return RIGHTS_OF_ROLE.get(role, frozenset())


def rights_of_token(role: str, scopes: list[str]) -> frozenset[Right]:
    """The rights of a token: what its scopes name, as far as its maker's role has it."""
    named = frozenset().union(*(RIGHTS_OF_SCOPE.get(scope, frozenset()) for scope in scopes))
    return rights_of(role) & named
