"""The models of accounts, by subject."""

from accounts.models.credentials import Credential, CredentialHealth, CredentialKind, CredentialQuerySet
from accounts.models.people import LONGEST_EMAIL, DismissedHint, Organization, Registration, User
from accounts.models.teams import (
    PLATFORM,
    FormerSlug,
    Invite,
    InviteQuerySet,
    Letter,
    Membership,
    Origin,
    ResourceRule,
    ResourceType,
    RuleAction,
    Team,
    not_reserved,
)
from accounts.models.tokens import APIToken, APITokenQuerySet, PaceCount
from accounts.models.trail import AuditAnchor, AuditFormat, AuditForwarding, AuditHead, AuditLine

__all__ = [
    "LONGEST_EMAIL",
    "PLATFORM",
    "APIToken",
    "APITokenQuerySet",
    "AuditAnchor",
    "AuditFormat",
    "AuditForwarding",
    "AuditHead",
    "AuditLine",
    "Credential",
    "CredentialHealth",
    "CredentialKind",
    "CredentialQuerySet",
    "DismissedHint",
    "FormerSlug",
    "Invite",
    "InviteQuerySet",
    "Letter",
    "Membership",
    "Organization",
    "Origin",
    "PaceCount",
    "Registration",
    "ResourceRule",
    "ResourceType",
    "RuleAction",
    "Team",
    "User",
    "not_reserved",
]
