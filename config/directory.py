"""How the settings name the company's directory: groups and what they mean here, and where LDAP is."""

from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

LDAP_SECONDS = 5


class GroupRole(NamedTuple):
    """Whoever is in the directory's group has the role in the team, by its slug."""

    group: str
    team: str
    role: str


def roles(text: str, *, name: str) -> tuple[GroupRole, ...]:
    """Read `ml-leads=atelier:lead, ml-all=atelier:researcher`; a group may contain "=" itself. `name` is the setting's.

    Raises ImproperlyConfigured. That teams and roles exist is checked where they are known.
    """
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        group, _, place = entry.rpartition("=")
        team, _, role = place.partition(":")
        if not (group.strip() and team.strip() and role.strip()):
            raise ImproperlyConfigured(f"{name}: '{entry}' is no group=team:role. Write for example ml-leads=atelier:lead.")
        found.append(GroupRole(group.strip(), team.strip(), role.strip()))
    return tuple(found)


def ldap_settings(env: Any, *, url: str, start_tls: bool) -> dict[str, Any]:
    """What django-auth-ldap is told. Raises ImproperlyConfigured where it is not installed."""
    try:
        import ldap
        from django_auth_ldap import config
    except ImportError as missing:
        raise ImproperlyConfigured("TUNEHOUSE_LDAP_URL is set, and the group `ldap` of pyproject.toml is not installed.") from missing
    people = env.str("TUNEHOUSE_LDAP_PEOPLE")
    groups = env.str("TUNEHOUSE_LDAP_GROUPS", default="")
    address = env.str("TUNEHOUSE_LDAP_MAIL_ATTRIBUTE", default="mail")
    found: dict[str, Any] = {
        "AUTH_LDAP_SERVER_URI": url,
        "AUTH_LDAP_BIND_DN": env.str("TUNEHOUSE_LDAP_BIND_DN", default=""),
        "AUTH_LDAP_BIND_PASSWORD": env.str("TUNEHOUSE_LDAP_BIND_PASSWORD", default=""),
        "AUTH_LDAP_START_TLS": start_tls,
        "AUTH_LDAP_CONNECTION_OPTIONS": {
            ldap.OPT_REFERRALS: 0,
            ldap.OPT_NETWORK_TIMEOUT: LDAP_SECONDS,
            ldap.OPT_TIMEOUT: LDAP_SECONDS,
        },
        "AUTH_LDAP_USER_SEARCH": config.LDAPSearch(people, ldap.SCOPE_SUBTREE, f"({address}=%(user)s)"),
        # Ours are the people; the directory says who is at the door, and in which groups.
        "AUTH_LDAP_ALWAYS_UPDATE_USER": False,
    }
    if groups:
        kind = env.str("TUNEHOUSE_LDAP_GROUP_CLASS", default="groupOfNames")
        types = {
            "groupOfNames": config.GroupOfNamesType,
            "groupOfUniqueNames": config.GroupOfUniqueNamesType,
            "group": config.ActiveDirectoryGroupType,
            "posixGroup": config.PosixGroupType,
        }
        if kind not in types:
            raise ImproperlyConfigured(f"TUNEHOUSE_LDAP_GROUP_CLASS: '{kind}' is none of {', '.join(types)}.")
        found["AUTH_LDAP_GROUP_SEARCH"] = config.LDAPSearch(groups, ldap.SCOPE_SUBTREE, f"(objectClass={kind})")
        found["AUTH_LDAP_GROUP_TYPE"] = types[kind]()
    return found
