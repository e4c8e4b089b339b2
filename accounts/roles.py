"""Who may do what: one table decides every right of a member and of a token."""

from enum import StrEnum
from typing import NamedTuple

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
    CONFIGS_ALL = "configs_all", _("Change and delete the team's configs")
    SPEND = "spend", _("See what the team spends")
    APPROVE = "approve", _("Approve jobs")
    QUEUE = "queue", _("Pause the team's queue and set priorities")
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
_LEAD = _RESEARCHER | {Right.CANCEL_ALL, Right.CONFIGS_ALL, Right.SPEND, Right.APPROVE, Right.QUEUE, Right.AUDIT}
_OWNER = _LEAD | {Right.MANAGE}

RIGHTS_OF_ROLE: dict[str, frozenset[Right]] = {
    Role.VIEWER: frozenset(_VIEWER),
    Role.RESEARCHER: frozenset(_RESEARCHER),
    Role.LEAD: frozenset(_LEAD),
    Role.OWNER: frozenset(_OWNER),
}

# Whom a role manages: the roles that it gives, takes away and invites with. Nobody manages anybody above their own level.
ROLES_MANAGED_BY: dict[str, frozenset[Role]] = {
    Role.VIEWER: frozenset(),
    Role.RESEARCHER: frozenset(),
    Role.LEAD: frozenset(),
    Role.OWNER: frozenset(Role),
}

RIGHTS_OF_SCOPE: dict[str, frozenset[Right]] = {
    Scope.READ: frozenset({Right.READ}),
    Scope.SUBMIT: frozenset({Right.READ, Right.SUBMIT}),
    Scope.CANCEL: frozenset({Right.READ, Right.CANCEL_OWN, Right.CANCEL_ALL}),
    Scope.DATASETS: frozenset({Right.READ, Right.DATASETS, Right.CONFIGS_ALL}),
    Scope.BILLING: frozenset({Right.READ, Right.SPEND}),
    Scope.ADMIN: frozenset({Right.READ, Right.APPROVE, Right.QUEUE, Right.AUDIT, Right.TOKENS_OWN, Right.MANAGE}),
}


class Beyond(StrEnum):
    """Where a permission of SimpleTuner's is no right in a team."""

    STAFF = "staff"  # the platform's staff have it, signed in to the portal
    NOT_OFFERED = "not_offered"


class Permission(NamedTuple):
    """What SimpleTuner's clients may ask for by name, and what stands for it here."""

    id: int
    name: str
    description: str
    given_by: Right | Beyond

    @property
    def category(self) -> str:
        word = self.name.partition(".")[0]
        return "jobs" if word == "job" else word


# Every permission name that SimpleTuner knows. The ids are SimpleTuner's own, and stay.
PERMISSION_TABLE = (
    Permission(1, "job.submit", "Submit training jobs", Right.SUBMIT),
    Permission(2, "job.view.own", "See one's own jobs", Right.READ),
    Permission(3, "job.view.all", "See the team's jobs", Right.READ),
    Permission(4, "job.cancel.own", "Cancel one's own jobs", Right.CANCEL_OWN),
    Permission(5, "job.cancel.all", "Cancel the team's jobs", Right.CANCEL_ALL),
    Permission(6, "job.delete.own", "Delete one's own jobs from the lists", Right.CANCEL_OWN),
    Permission(7, "job.delete.all", "Delete the team's jobs from the lists", Right.CANCEL_ALL),
    Permission(8, "job.priority.high", "Give jobs another priority than the role's own", Right.QUEUE),
    Permission(9, "job.bypass.queue", "Skip the queue", Beyond.NOT_OFFERED),
    Permission(10, "job.bypass.approval", "Skip approval", Beyond.NOT_OFFERED),
    Permission(11, "job.bypass.quota", "Go beyond limits", Beyond.NOT_OFFERED),
    Permission(20, "config.view", "See configs", Right.READ),
    Permission(21, "config.create", "Make configs", Right.DATASETS),
    Permission(22, "config.edit.own", "Change one's own configs", Right.DATASETS),
    Permission(23, "config.edit.all", "Change the team's configs", Right.CONFIGS_ALL),
    Permission(24, "config.delete.own", "Delete one's own configs", Right.DATASETS),
    Permission(25, "config.delete.all", "Delete the team's configs", Right.CONFIGS_ALL),
    Permission(30, "queue.view", "See the queue", Right.READ),
    Permission(31, "queue.view.all", "See the team's jobs in the queue", Right.READ),
    Permission(32, "queue.cancel.own", "Cancel one's own waiting jobs", Right.CANCEL_OWN),
    Permission(33, "queue.cancel.all", "Cancel the team's waiting jobs", Right.CANCEL_ALL),
    Permission(34, "queue.approve", "Approve and reject jobs", Right.APPROVE),
    Permission(40, "quota.view", "See limits and what is spent", Right.SPEND),
    Permission(41, "quota.manage", "Set limits", Right.MANAGE),
    Permission(35, "queue.manage", "Set how the team's queue runs", Right.MANAGE),
    Permission(50, "admin.users", "Manage people", Right.MANAGE),
    Permission(51, "admin.levels", "Give people their roles", Right.MANAGE),
    Permission(52, "admin.quotas", "Manage limits", Right.MANAGE),
    Permission(53, "admin.approve", "Approve jobs", Right.APPROVE),
    Permission(54, "admin.config", "Change the team's settings", Right.MANAGE),
    Permission(55, "admin.audit", "Read the audit trail", Right.AUDIT),
    Permission(56, "admin.queue", "Manage the team's queue", Right.MANAGE),
    Permission(57, "admin.workers", "Manage machines of one's own", Beyond.NOT_OFFERED),
    Permission(58, "admin.backup", "Make and restore backups", Beyond.STAFF),
    Permission(59, "admin.database", "Look after the database", Beyond.STAFF),
    Permission(60, "org.view", "See the organization", Right.READ),
    Permission(61, "org.create", "Make organizations", Beyond.NOT_OFFERED),
    Permission(62, "org.edit", "Change the organization", Beyond.STAFF),
    Permission(63, "org.delete", "Delete organizations", Beyond.NOT_OFFERED),
    Permission(64, "org.manage.members", "Take people into the organization", Beyond.STAFF),
    Permission(65, "org.manage.quotas", "Set the organization's limits", Beyond.STAFF),
    Permission(70, "api.access", "Use the API", Right.READ),
    Permission(71, "api.keys.own", "Make API keys", Right.TOKENS_OWN),
    Permission(72, "api.keys.all", "Manage the team's API keys", Right.MANAGE),
    Permission(80, "team.view", "See the team", Right.READ),
    Permission(81, "team.create", "Make teams", Beyond.STAFF),
    Permission(82, "team.edit", "Change the team", Right.MANAGE),
    Permission(83, "team.delete", "Delete teams", Beyond.STAFF),
    Permission(84, "team.manage.members", "Manage the team's members", Right.MANAGE),
    Permission(85, "team.manage.quotas", "Set the team's limits", Right.MANAGE),
)

# Those of them that are a right in a team. The first of each right is the name that refusals use.
PERMISSIONS: dict[str, Right] = {known.name: known.given_by for known in PERMISSION_TABLE if isinstance(known.given_by, Right)}


def rights_of(role: str) -> frozenset[Right]:
    """The rights of a member with this role; none for a role that we do not know."""
    return RIGHTS_OF_ROLE.get(role, frozenset())


def manages(role: str, other: str) -> bool:
    """Whether who has `role` may give the role `other`, and change or remove who has it."""
    return other in ROLES_MANAGED_BY.get(role, frozenset())


def rights_of_token(role: str, scopes: list[str]) -> frozenset[Right]:
    """The rights of a token: what its scopes name, as far as its maker's role has it."""
    named = frozenset().union(*(RIGHTS_OF_SCOPE.get(scope, frozenset()) for scope in scopes))
    return rights_of(role) & named


def names_of(rights: frozenset[Right]) -> list[str]:
    """SimpleTuner's names for all that these rights allow, sorted."""
    return sorted(name for name, right in PERMISSIONS.items() if right in rights)
