"""Calling our own webhook address as Replicate would, to say plainly what stands in the way.

The call is marked by a nonce that only this installation can have signed, so that its answer proves who answers. It is
checked as a delivery is, and nothing of it is kept.
"""

import ipaddress
import json
import secrets
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import structlog
from django.core import signing
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_noop

from accounts import credentials
from accounts.addresses import private_address_of, problem_with_public_url
from accounts.callers import Caller
from accounts.errors import InvalidInput, NotFound
from accounts.models import Credential, CredentialKind, Team
from accounts.roles import Right
from jobs import outbound, settingkeys
from jobs.outbound import Steps, Trouble
from jobs.services import addresses, provider
from webhooks import signatures

log = structlog.get_logger(__name__)

SALT = "webhooks.test"
# Long enough for a test from outside that waits for a machine.
NONCE_SECONDS = 300
LONGEST_TIMEOUT_SECONDS = 30.0
# Of an answer only its kind is told; ours is short.
MOST_BYTES = 64 * 1024
BODY = json.dumps({"test": True, "id": "", "status": "test"}).encode()


class Finding(StrEnum):
    """What became of a test, where the network itself was no trouble."""

    ARRIVED = "arrived"
    NO_TOKEN = "no_token"  # noqa: S105 (a word)
    NOT_REQUIRED = "signature_not_required"
    NO_SECRET = "no_signing_secret"  # noqa: S105
    NO_ADDRESS = "no_address"
    NOT_PUBLIC = "not_public"
    PRIVATE_HERE = "private_from_here"
    REDIRECT = "redirect"
    TURNED_AWAY = "turned_away"
    ALLOWLIST = "ip_not_allowed"
    SIGNATURE = "invalid_signature"
    UNKNOWN_HOST = "unknown_host"
    NOT_FOUND = "not_found"
    OTHER_INSTALLATION = "other_installation"
    NOT_PASSED_ON = "not_passed_on"
    SOMETHING_ELSE = "something_else"


ARRIVED = frozenset({Finding.ARRIVED, Finding.NO_TOKEN, Finding.NOT_REQUIRED, Finding.NO_SECRET})
SENTENCES = {
    Finding.ARRIVED: gettext_noop("The address leads here, and the signature is accepted."),
    Finding.NO_TOKEN: gettext_noop("The address leads here. The signature could not be tried: no Replicate token is saved."),
    Finding.NOT_REQUIRED: gettext_noop("The address leads here. No signature was tried, since the settings ask for none."),
    Finding.NO_SECRET: gettext_noop("The address leads here. The signature could not be tried: Replicate did not give the signing secret."),
    Finding.NO_ADDRESS: gettext_noop("No public address is set: name one as webhook_url, or an administrator sets TUNEHOUSE_PUBLIC_URL."),
    Finding.NOT_PUBLIC: gettext_noop("Replicate cannot call this address. %(said)s"),
    Finding.PRIVATE_HERE: gettext_noop(
        "From this server %(host)s is the private address %(said)s, which is not called. If the world sees another one, test from outside."
    ),
    Finding.REDIRECT: gettext_noop("The address redirects to %(said)s, and deliveries follow no redirect. Set the address where it ends."),
    Finding.TURNED_AWAY: gettext_noop(
        "Something in front of this server turned the call away (%(status)s). Let POST requests to the webhook path pass without a sign-in."
    ),
    Finding.ALLOWLIST: gettext_noop(
        "The call arrived and the list of allowed addresses turned it away: it came from %(said)s. What calls from there is not let in."
    ),
    Finding.SIGNATURE: gettext_noop(
        "The call arrived and its signature was not accepted. Something on the way changes the body or drops the headers webhook-…."
    ),
    Finding.UNKNOWN_HOST: gettext_noop("The server does not answer to the name %(host)s: an administrator adds it to ALLOWED_HOSTS."),
    Finding.NOT_FOUND: gettext_noop("Something else answers at %(host)s: it does not know the webhook path (404)."),
    Finding.OTHER_INSTALLATION: gettext_noop("Another installation of Tunehouse answers at %(host)s: it did not make this test."),
    Finding.NOT_PASSED_ON: gettext_noop("The proxy in front of this server answered %(status)s: it does not reach this server."),
    Finding.SOMETHING_ELSE: gettext_noop("Something else answers at %(host)s (%(status)s)."),
}
SIGNATURES = {"valid": Finding.ARRIVED, "not_required": Finding.NOT_REQUIRED}


class UnknownTest(NotFound):
    """The nonce is none of ours, or too old."""

    code = "test_unknown"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a test ended. `sentence` with its `names` is the message; latency is in milliseconds."""

    success: bool
    reason: str
    sentence: str
    names: dict[str, str] = field(default_factory=dict)
    latency_ms: float | None = None
    status_code: int | None = None
    prediction_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """In English, for the API."""
        return self.sentence % self.names

    @property
    def translated(self) -> str:
        return gettext(self.sentence) % self.names


@dataclass(frozen=True)
class Tested:
    """Whom a test is for, and whose signature it bears; None for a test without one."""

    team: Team
    credential: Credential | None


def probe(caller: Caller, *, url: str = "", timeout_seconds: float = LONGEST_TIMEOUT_SECONDS) -> Outcome:
    """Post a marked, signed test to the team's webhook address, or to `url`, by the team's outbound settings.

    Raises NotPermitted, and InvalidInput for a `url` that must not be called.
    """
    caller.require(Right.MANAGE, permission="admin.config")
    address = address_for(caller.team, url)
    if (found := obstacle(address)) is not None:
        if url:
            raise InvalidInput(found.message, field="webhook_url")
        return found
    signer, keys, unsigned = _signer(caller)
    headers = {"Content-Type": "application/json", "User-Agent": "tunehouse/0.1 (webhook test)"}
    if keys:
        headers |= signatures.sign(BODY, secret=keys[0], webhook_id=f"test_{secrets.token_hex(12)}", now=timezone.now())
    outcome = _call(
        marked(address, team=caller.team, credential=signer),
        team=caller.team,
        unsigned=unsigned,
        headers=headers,
        timeout_seconds=timeout_seconds,
    )
    log.info("webhook.tested", team=caller.team.slug, reason=outcome.reason)
    return outcome


def address_for(team: Team, url: str = "") -> str:
    """Where a test goes: the team's webhook address ("" where none is set), or `url`, whose path may be left out. Raises InvalidInput."""
    path = reverse("webhooks:replicate")
    if not url:
        base = addresses.public_base(team)
        return base + path if base else ""
    parts = settingkeys.split("webhook_url", url.strip())
    if parts.username is not None or parts.fragment:
        raise InvalidInput("webhook_url must be an address without a user name and without a fragment.", field="webhook_url")
    return parts._replace(path=parts.path if parts.path.strip("/") else path).geturl()


def obstacle(address: str, *, from_here: bool = True) -> Outcome | None:
    """Why an address must not be called at all; None if it may. `from_here` says that it is this server that would call."""
    if not address:
        return _outcome(Finding.NO_ADDRESS)
    if problem := problem_with_public_url(address):
        return _outcome(Finding.NOT_PUBLIC, said=problem)
    if from_here and (private := private_address_of(address)):
        return _outcome(Finding.PRIVATE_HERE, host=urlsplit(address).hostname or "", said=private)
    return None


def marked(address: str, *, team: Team, credential: Credential | None) -> str:
    """The address with a nonce that this installation knows again for NONCE_SECONDS."""
    nonce = signing.dumps({"team": team.pk, "credential": credential.pk if credential else None}, salt=SALT)
    return f"{address}{'&' if '?' in address else '?'}test={nonce}"


def tested(nonce: str) -> Tested:
    """Whom a nonce was made for. Raises UnknownTest."""
    try:
        named = signing.loads(nonce, salt=SALT, max_age=NONCE_SECONDS)
    except signing.BadSignature:
        named = {}
    team = Team.objects.filter(pk=named.get("team")).first()
    credential = Credential.objects.in_use().filter(pk=named.get("credential")).first()
    if team is None or (named["credential"] and credential is None):
        raise UnknownTest("This installation made no such test, or it is too old.")
    return Tested(team, credential)


def _signer(caller: Caller) -> tuple[Credential | None, list[str], Finding]:
    """Whose signature the test bears, its secrets, and what it means if none was tried.

    The secret is fetched only where deliveries must be signed.
    """
    credential = credentials.find(team=caller.team, user=caller.user, kind=CredentialKind.REPLICATE)
    if credential is None:
        return None, [], Finding.NO_TOKEN
    if not provider.settings_of(caller.team).webhook_require_signature:
        return credential, [], Finding.NOT_REQUIRED
    keys = provider.signing_keys(team=caller.team, credential=credential)
    return (credential if keys else None), keys, Finding.NO_SECRET


def _call(address: str, *, team: Team, unsigned: Finding, headers: dict[str, str], timeout_seconds: float) -> Outcome:
    way = provider.outbound(team)
    patience = min(way.timeout_seconds, timeout_seconds, LONGEST_TIMEOUT_SECONDS)
    steps, began = Steps(address), time.monotonic()
    try:
        with (
            outbound.public_client(replace(way, timeout_seconds=patience), address, headers=headers) as http,
            http.stream("POST", address, content=BODY, extensions={"trace": steps}) as response,
        ):
            said = _read(response, until=began + patience)
    except outbound.Unusable as error:
        return _of_trouble(error.trouble)
    except outbound.PrivateHost as error:
        return _outcome(Finding.PRIVATE_HERE, host=steps.host, said=error.address)
    except httpx.HTTPError as error:
        return _of_trouble(outbound.trouble(error, steps))
    if response.status_code == 407:
        return _of_trouble(outbound.refusal_of_proxy(407, steps))
    latency = round((time.monotonic() - began) * 1000, 1)
    return _understood(response, said, team=team, unsigned=unsigned, host=steps.host, latency_ms=latency)


def _read(response: httpx.Response, *, until: float) -> dict[str, Any]:
    """The answer as an object, as far as it came in time; {} for anything else."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MOST_BYTES or time.monotonic() > until:
            return {}
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _understood(response: httpx.Response, said: dict[str, Any], *, team: Team, unsigned: Finding, host: str, latency_ms: float) -> Outcome:
    """What an answer means. Of its words only those that we know are told."""
    status, code = response.status_code, said.get("code")
    names = {"host": host, "status": str(status), "said": ""}
    if status == 200 and (said.get("reason"), said.get("team")) == ("test", team.slug):
        finding = SIGNATURES.get(str(said.get("signature")), unsigned)
    elif response.is_redirect:
        finding, names["said"] = Finding.REDIRECT, _where(response)
    elif status == 403 and code == "ip_not_allowed":
        finding, names["said"] = Finding.ALLOWLIST, _address_in(said)
    elif status == 401 and code == "invalid_signature":
        finding = Finding.SIGNATURE
    elif status == 400 and code == "invalid_input":  # what we sent is well-formed, so it is the name that is refused
        finding = Finding.UNKNOWN_HOST
    elif status == 404 and code in ("test_unknown", "job_not_found"):
        finding = Finding.OTHER_INSTALLATION
    elif status in (401, 403):
        finding = Finding.TURNED_AWAY
    elif status == 404:
        finding = Finding.NOT_FOUND
    elif status in (502, 503, 504):
        finding = Finding.NOT_PASSED_ON
    else:
        finding = Finding.SOMETHING_ELSE
    return _outcome(finding, latency_ms=latency_ms, status_code=status, **names)


def _where(response: httpx.Response) -> str:
    """Where a redirect leads, without the query: it may hold the nonce."""
    try:
        parts = urlsplit(urljoin(str(response.url), response.headers["location"]))
    except ValueError:
        return "?"
    return parts._replace(query="", fragment="").geturl()[:300]


def _address_in(said: dict[str, Any]) -> str:
    details = said.get("details")
    try:
        return str(ipaddress.ip_address(str(details["address"]) if isinstance(details, dict) else ""))
    except (KeyError, ValueError):
        return "?"


def _outcome(finding: Finding, *, latency_ms: float | None = None, status_code: int | None = None, **names: str) -> Outcome:
    return Outcome(
        success=finding in ARRIVED,
        reason=finding.value,
        sentence=SENTENCES[finding],
        names=names,
        latency_ms=latency_ms,
        status_code=status_code,
    )


def _of_trouble(found: Trouble) -> Outcome:
    return Outcome(success=False, reason=found.reason.value, sentence=outbound.SENTENCES[found.reason], names=found.names)
