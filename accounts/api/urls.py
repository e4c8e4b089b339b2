"""The API's addresses of people and what belongs to them, below /api/. Literal ones come before those with an id."""

from accounts.api import audit, auth, credentials, keys, orgs, people, rules
from accounts.api.routes import both

USER = r"(?P<user_id>[0-9]{1,20})"
LEVEL = r"(?P<level_id>[0-9]{1,9})"
RULE = r"(?P<rule_id>[0-9]{1,20})"
KEY = r"(?P<key_id>[0-9]{1,20})"
ORG = r"(?P<org>[A-Za-z0-9-]{1,50})"
TEAM = r"(?P<team>[A-Za-z0-9_-]{1,50})"
NAME = r"(?P<name>[^/]{1,100})"
PROVIDER = r"(?P<provider>[a-z0-9_]{1,20})"

app_name = "accounts_api"

urlpatterns = [
    both("auth/setup/status", auth.SetupStatus),
    both("auth/setup/first-admin", auth.FirstAdmin),
    both("auth/login", auth.Login),
    both("auth/logout", auth.Logout),
    both("auth/check", auth.Check),
    both("auth/register", auth.Register),
    both("auth/change-password", auth.Password),
    both("auth/api-keys", keys.Keys),
    both("cloud/auth/api-keys", keys.Keys),
    both(f"auth/api-keys/{KEY}", keys.Key),
    both(f"cloud/auth/api-keys/{KEY}", keys.Key),
    both(f"auth/api-keys/{KEY}/rotate", keys.KeyRotation),
    both(f"cloud/auth/api-keys/{KEY}/rotate", keys.KeyRotation),
    *(
        route
        for prefix in ("auth/external", "cloud/external-auth")
        for route in (
            both(f"{prefix}/available", auth.ExternalAvailable),
            both(f"{prefix}/providers", auth.ExternalNotOffered),
            both(f"{prefix}/providers/{NAME}", auth.ExternalNotOffered),
            both(f"{prefix}/providers/{NAME}/test", auth.ExternalNotOffered),
            both(f"{prefix}/oidc/start", auth.ExternalNotOffered),
            both(f"{prefix}/oidc/callback", auth.ExternalNotOffered),
            both(f"{prefix}/oidc/{NAME}/start", auth.ExternalNotOffered),
            both(f"{prefix}/oidc/{NAME}/callback", auth.ExternalNotOffered),
            both(f"{prefix}/ldap/login", auth.ExternalNotOffered),
        )
    ),
    both("users/meta/auth-status", people.AuthStatus),
    both("users/meta/levels", people.Levels),
    both("users/meta/permissions", people.Permissions),
    both("users/me/profile", people.Profile),
    both("users/me/password", auth.Password),
    both("users/me/avatar", people.Avatar),
    both("users/me/avatar/upload", people.Avatar),
    both("users/me/credentials", credentials.OwnCredentials),
    both("users/me/credentials/rotate", credentials.OwnRotation),
    both(f"users/me/credentials/{PROVIDER}/{NAME}", credentials.OwnCredential),
    both("users/levels", people.Levels),
    both(f"users/levels/{LEVEL}", people.LevelDetail),
    both(f"users/levels/{LEVEL}/permissions", people.LevelPermissions),
    both(f"users/levels/{LEVEL}/rules", rules.LevelRules),
    both(f"users/levels/{LEVEL}/rules/{RULE}", rules.LevelRule),
    both("users/resource-rules", rules.Rules),
    both(f"users/resource-rules/{RULE}", rules.Rule),
    both("users/credentials/check-stale", credentials.CheckStale),
    both("users", people.People),
    both(f"users/{USER}", people.Person),
    both(f"users/{USER}/deactivate", people.Deactivate),
    both(f"users/{USER}/activate", people.Activate),
    both(f"users/{USER}/levels", people.PersonLevels),
    both(f"users/{USER}/levels/{NAME}", people.PersonLevel),
    both(f"users/{USER}/permissions", people.PersonPermissions),
    both(f"users/{USER}/permissions/{NAME}", people.PersonPermission),
    both(f"users/{USER}/credentials", credentials.MemberCredentials),
    both(f"users/{USER}/credentials/rotate", credentials.MemberRotation),
    both(f"users/{USER}/credentials/stale", credentials.MemberStale),
    both(f"users/{USER}/credentials/{PROVIDER}/{NAME}", credentials.MemberCredential),
    both("orgs", orgs.Organizations),
    both(f"orgs/{ORG}", orgs.OrganizationDetail),
    both(f"orgs/{ORG}/members", orgs.OrganizationMembers),
    both(f"orgs/{ORG}/members/{USER}", orgs.OrganizationMember),
    both(f"orgs/{ORG}/teams", orgs.Teams),
    both(f"orgs/{ORG}/teams/{TEAM}", orgs.TeamDetail),
    both(f"orgs/{ORG}/teams/{TEAM}/members", orgs.TeamMembers),
    both(f"orgs/{ORG}/teams/{TEAM}/members/{USER}", orgs.TeamMember),
    both("audit", audit.AuditList, "audit"),
    both("audit/stats", audit.AuditStats, "audit-stats"),
    both("audit/types", audit.AuditTypes, "audit-types"),
    both("audit/verify", audit.AuditVerify, "audit-verify"),
    both(r"audit/user/(?P<user_id>[0-9]{1,18})", audit.AuditOfUser, "audit-user"),
    both("audit/security", audit.AuditSecurity, "audit-security"),
    both("audit/export", audit.AuditExport, "audit-export"),
    both("audit/export-config", audit.AuditExportConfig, "audit-export-config"),
]
