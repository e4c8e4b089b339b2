"""A directory of a company: Debian's slapd with a few people and groups, on a free port, gone with the test."""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.config.processes import free_port

# Debian keeps servers where not everybody looks for programs.
SLAPD = shutil.which("slapd", path=f"{os.environ['PATH']}:/usr/sbin")
SCHEMAS = Path("/etc/ldap/schema")
START_SECONDS = 120
ROOT_DN, ROOT_PASSWORD = "cn=admin,dc=example,dc=com", "the directory's own password"
PASSWORD = "a password of the directory"
CONFIG = """
include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
suffix "dc=example,dc=com"
rootdn "{root_dn}"
rootpw "{root_password}"
directory {folder}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn="cn=tunehouse,ou=services,dc=example,dc=com" read by * none
"""
TREE = """
dn: dc=example,dc=com
objectClass: domain
dc: example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: ou=services,dc=example,dc=com
objectClass: organizationalUnit
ou: services

dn: cn=tunehouse,ou=services,dc=example,dc=com
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: tunehouse
userPassword: {password}

dn: uid=ada,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: ada
cn: Ada Lovelace
sn: Lovelace
displayName: Ada L.
mail: Ada@example.com
userPassword: {password}

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
mail: bob@example.com
userPassword: {password}

dn: cn=ml-leads,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: ml-leads
member: uid=ada,ou=people,dc=example,dc=com
member: uid=bob,ou=people,dc=example,dc=com
"""


@contextlib.contextmanager
def directory(folder: Path) -> Iterator[str]:
    """Run one; its address."""
    (folder / "data").mkdir()
    config, tree = folder / "slapd.conf", folder / "tree.ldif"
    config.write_text(CONFIG.format(schemas=SCHEMAS, folder=folder, root_dn=ROOT_DN, root_password=ROOT_PASSWORD))
    tree.write_text(TREE.format(password=PASSWORD))
    slapd = str(SLAPD)
    subprocess.run([slapd, "-T", "add", "-f", str(config), "-l", str(tree)], check=True, capture_output=True)
    address = f"ldap://127.0.0.1:{free_port()}"
    # -d keeps it in the foreground.
    with subprocess.Popen(
        [slapd, "-f", str(config), "-h", address, "-d", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def leave_group(address: str, group: str, person: str) -> None:
    """Take somebody out of a group."""
    import ldap

    connection = ldap.initialize(address)
    connection.simple_bind_s(ROOT_DN, ROOT_PASSWORD)
    member = f"uid={person},ou=people,dc=example,dc=com".encode()
    connection.modify_s(f"cn={group},ou=groups,dc=example,dc=com", [(ldap.MOD_DELETE, "member", [member])])
    connection.unbind_s()


def _wait_for(address: str, process: subprocess.Popen) -> None:
    import ldap

    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        with contextlib.suppress(ldap.SERVER_DOWN):
            ldap.initialize(address).simple_bind_s(ROOT_DN, ROOT_PASSWORD)
            return
        threading.Event().wait(0.05)
    raise AssertionError("slapd does not answer")
