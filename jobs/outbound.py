"""How calls leave this server: proxy, certificates, time-outs; and in plain words why one did not arrive.

Nothing here is quoted from the proxy's address but its host and port: the rest may hold a password.
"""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx
from django.conf import settings
from django.utils.translation import gettext, gettext_noop

from accounts.addresses import looked_up, private_among

LONGEST_CONNECT_SECONDS = 10.0
# OpenSSL's verdicts on a certificate (X509_V_ERR_…).
EXPIRED, OTHER_NAME = 10, (62, 64)


@dataclass(frozen=True, kw_only=True)
class Outbound:
    """How others are reached. Without a `proxy_url`, HTTPS_PROXY and NO_PROXY of the environment count.

    `timeout_seconds` is the longest silence while sending or reading; connecting waits 10 s at most.
    """

    proxy_url: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    verify: bool = True
    timeout_seconds: float = 30.0

    @property
    def connect_seconds(self) -> float:
        return min(self.timeout_seconds, LONGEST_CONNECT_SECONDS)


# As the environment says.
PLAIN = Outbound()


class Reason(StrEnum):
    """Why a call did not arrive, each told apart because each is mended elsewhere."""

    SETTINGS = "settings"
    PROXY_NAME = "proxy_name"
    PROXY_AWAY = "proxy_away"
    PROXY_LOGIN = "proxy_login"
    PROXY_REFUSED = "proxy_refused"
    PROXY_FAILED = "proxy_failed"
    NAME = "name_not_found"
    PRIVATE = "private_address"
    REFUSED = "refused"
    CERTIFICATE = "certificate"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NAME = "certificate_name"
    TLS = "tls"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    OTHER = "other"


SENTENCES = {
    Reason.SETTINGS: gettext_noop("The proxy's address or the CA bundle cannot be used; see the outbound network settings."),
    Reason.PROXY_NAME: gettext_noop("The name of the proxy %(proxy)s was not found."),
    Reason.PROXY_AWAY: gettext_noop("The proxy %(proxy)s cannot be reached: nothing answers there."),
    Reason.PROXY_LOGIN: gettext_noop("The proxy %(proxy)s does not accept the user name or the password (407)."),
    Reason.PROXY_REFUSED: gettext_noop("The proxy %(proxy)s does not allow calls to %(host)s (403)."),
    Reason.PROXY_FAILED: gettext_noop("The proxy %(proxy)s could not pass the call on to %(host)s (%(said)s)."),
    Reason.NAME: gettext_noop("The name %(host)s was not found."),
    Reason.PRIVATE: gettext_noop("%(host)s leads to the private address %(said)s, which is not called."),
    Reason.REFUSED: gettext_noop("%(host)s refused the connection: nothing answers there."),
    Reason.CERTIFICATE: gettext_noop("The certificate of %(host)s is not trusted (%(said)s)."),
    Reason.CERTIFICATE_EXPIRED: gettext_noop("The certificate of %(host)s has expired."),
    Reason.CERTIFICATE_NAME: gettext_noop("The certificate of %(host)s was made for another name."),
    Reason.TLS: gettext_noop("%(host)s does not speak TLS as it should (%(said)s)."),
    Reason.TIMEOUT: gettext_noop("%(host)s did not answer in time."),
    Reason.BROKEN: gettext_noop("The connection to %(host)s broke off."),
    Reason.OTHER: gettext_noop("The call to %(host)s failed (%(said)s)."),
}
# The same call may go through in a moment; a wrong password or certificate stays wrong, and asking again may lock an account.
_PASSING = frozenset({Reason.PROXY_AWAY, Reason.PROXY_FAILED, Reason.NAME, Reason.REFUSED, Reason.TIMEOUT, Reason.BROKEN, Reason.OTHER})


@dataclass(frozen=True)
class Trouble:
    """Why a call did not arrive: as text in English, and `translated` in the person's language."""

    reason: Reason
    host: str = ""
    proxy: str = ""
    said: str = ""

    def __str__(self) -> str:
        return SENTENCES[self.reason] % self.names

    @property
    def translated(self) -> str:
        return gettext(SENTENCES[self.reason]) % self.names

    @property
    def is_passing(self) -> bool:
        return self.reason in _PASSING

    @property
    def names(self) -> dict[str, str]:
        return {"host": self.host, "proxy": self.proxy, "said": self.said}


class Unusable(Exception):
    """No call can be made by these settings."""

    trouble = Trouble(Reason.SETTINGS)


class PrivateHost(httpx.ConnectError):
    """A name led to `address`, outside the public internet, at the moment of the call."""

    def __init__(self, address: str, *, request: httpx.Request) -> None:
        super().__init__(f"{request.url.host} leads to a private address.", request=request)
        self.address = address


class Steps:
    """How far one call came: whom it dialled and whose certificate it looked at. Give it to httpx as `trace`.

    Source: httpx's documentation, "Request extensions", trace.
    """

    def __init__(self, url: str) -> None:
        parts = httpx.URL(url)
        self.host = parts.host
        self._target = (parts.host, parts.port or {"https": 443}.get(parts.scheme, 80))
        self._dialled: tuple[str, int] | None = None
        self._greeted = ""

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.started"):
            self._dialled = (str(info["host"]), int(info["port"]))
        elif event.endswith("start_tls.started"):
            self._greeted = str(info["server_hostname"] or "")

    def led_to(self, address: str) -> None:
        """The host was looked up and stands at this address, so that dialling it is dialling the host."""
        self._target = (address, self._target[1])

    @property
    def proxy(self) -> str:
        """The proxy that was dialled, as host:port; "" where the call went straight."""
        return "" if self._dialled in (None, self._target) else "{}:{}".format(*self._dialled)

    @property
    def greeted(self) -> str:
        """Whose certificate was looked at last."""
        return self._greeted or self.host


def public_client(outbound: Outbound, url: str, *, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """A client for an address that a team names: what it dials is what was looked up and found public. Raises Unusable.

    Where a proxy is on the way the proxy looks the name up, and its rules decide. Private hosts may be allowed (see accounts.addresses).
    """
    proxy = outbound.proxy_url or _environments_proxy(url)
    if proxy or settings.ALLOW_PRIVATE_HOSTS:
        return client(replace(outbound, proxy_url=proxy), headers=headers)
    return client(outbound, headers=headers, public_only=True)


def client(outbound: Outbound, *, headers: Mapping[str, str] | None = None, public_only: bool = False) -> httpx.Client:
    """An HTTP client that calls so and follows no redirect; `public_only` asks no proxy and dials public addresses. Raises Unusable."""
    patience, connect = outbound.timeout_seconds, outbound.connect_seconds
    try:
        context = tls(outbound)
        return httpx.Client(
            headers={"User-Agent": "tunehouse/0.1", **(headers or {})},
            timeout=httpx.Timeout(connect=connect, read=patience, write=patience, pool=connect),
            proxy=_proxy(outbound.proxy_url, context) if outbound.proxy_url else None,
            transport=_PublicOnly(context) if public_only else None,
            verify=context,
            follow_redirects=False,
            trust_env=True,
        )
    except (OSError, ValueError, httpx.InvalidURL):
        # Their own texts may quote the proxy's password.
        raise Unusable(SENTENCES[Reason.SETTINGS]) from None


class _PublicOnly(httpx.BaseTransport):
    """Looks a name up once, and dials what it found: between a check and a call a name could be led elsewhere.

    Source: httpx's documentation, "Request extensions", sni_hostname.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._inner = httpx.HTTPTransport(verify=context)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            found = looked_up(request.url.host)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError("The name was not found.", request=request) from error
        if private := private_among(found):
            raise PrivateHost(private, request=request)
        for address in found[:-1]:
            try:
                return self._inner.handle_request(_at(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return self._inner.handle_request(_at(request, found[-1]))

    def close(self) -> None:
        self._inner.close()


def _at(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to this address; the certificate and the Host header stay those of the name."""
    if isinstance(steps := request.extensions.get("trace"), Steps):
        steps.led_to(address)
    extensions = {**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")}
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def _environments_proxy(url: str) -> str | None:
    """The proxy that the environment names for an address; None where it names none, or excepts the host."""
    parts, named = httpx.URL(url), getproxies()
    if proxy_bypass(parts.host):
        return None
    found = named.get(parts.scheme) or named.get("all")
    return found if found is None or "://" in found else f"http://{found}"


def _proxy(url: str, context: ssl.SSLContext) -> httpx.Proxy:
    """A proxy that is itself reached by https shows a certificate that the same authorities must have signed."""
    return httpx.Proxy(url, ssl_context=context if url.startswith("https:") else None)


@lru_cache(maxsize=16)
def _context(verify: bool, ca_bundle: str | None, changed_at: int) -> ssl.SSLContext:
    """Make a TLS context, which costs some 20 ms, once for each bundle and its time of change."""
    if not verify:
        return httpx.create_ssl_context(verify=False)
    return ssl.create_default_context(cafile=ca_bundle) if ca_bundle else httpx.create_ssl_context()


def tls(outbound: Outbound) -> ssl.SSLContext:
    """The TLS context for calls that go out so; kept, since making one takes a while. Raises OSError for a bundle that is gone."""
    changed_at = os.stat(outbound.ca_bundle).st_mtime_ns if outbound.verify and outbound.ca_bundle else 0
    return _context(outbound.verify, outbound.ca_bundle, changed_at)


def trouble(error: Exception, steps: Steps) -> Trouble:
    """Say why a call failed that took these steps. `error` is what httpx raised."""
    causes = list(_causes(error))
    if isinstance(error, PrivateHost):
        return Trouble(Reason.PRIVATE, host=steps.host, said=error.address)
    if isinstance(error, httpx.ProxyError):
        return refusal_of_proxy(_status(error), steps)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _about_certificate(cause, steps)
        if isinstance(cause, ssl.SSLError):
            return Trouble(Reason.TLS, host=steps.greeted, said=(cause.reason or "SSLError").lower().replace("_", " "))
    is_unknown = any(isinstance(cause, socket.gaierror) for cause in causes)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and steps.proxy:
        return Trouble(Reason.PROXY_NAME if is_unknown else Reason.PROXY_AWAY, host=steps.host, proxy=steps.proxy)
    if is_unknown:
        return Trouble(Reason.NAME, host=steps.host)
    if isinstance(error, httpx.TimeoutException):
        return Trouble(Reason.TIMEOUT, host=steps.host)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Trouble(Reason.REFUSED, host=steps.host)
    if isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError):
        return Trouble(Reason.BROKEN, host=steps.host)
    return Trouble(Reason.OTHER, host=steps.host, said=type(error).__name__)


def refusal_of_proxy(status: int | None, steps: Steps) -> Trouble:
    """What a proxy means by this HTTP status; None where it gave none, as SOCKS proxies do."""
    reason = {407: Reason.PROXY_LOGIN, 403: Reason.PROXY_REFUSED}.get(status or 0, Reason.PROXY_FAILED)
    # One that nobody named sits on the way and speaks for the host.
    return Trouble(reason, host=steps.host, proxy=steps.proxy or steps.host, said=str(status or "SOCKS"))


def _status(error: httpx.ProxyError) -> int | None:
    found = re.match(r"([0-9]{3})\b", str(error))
    if found is None and "password" in str(error).lower():  # a SOCKS proxy's way to say 407
        return 407
    return int(found[1]) if found else None


def _about_certificate(error: ssl.SSLCertVerificationError, steps: Steps) -> Trouble:
    if error.verify_code == EXPIRED:
        return Trouble(Reason.CERTIFICATE_EXPIRED, host=steps.greeted)
    if error.verify_code in OTHER_NAME:
        return Trouble(Reason.CERTIFICATE_NAME, host=steps.greeted)
    return Trouble(Reason.CERTIFICATE, host=steps.greeted, said=error.verify_message)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
