"""Fetching a cloud's file of networks from an address that a team names."""

import time
from urllib.parse import urlsplit

import httpx

from accounts.addresses import private_address_of, problem_with_public_url
from accounts.models import Team
from jobs import outbound, settingkeys
from jobs.outbound import Steps
from jobs.services import provider
from webhooks.ranges import MOST_BYTES, BadFile

# Somebody waits for the page.
PATIENCE_SECONDS = 15.0


def fetch(team: Team, url: str) -> bytes:
    """What lies at a public address, by the team's outbound settings. Raises BadFile, and InvalidInput for what is no address."""
    parts = settingkeys.split("url", url)
    if parts.username is not None:
        raise BadFile("The address must be one without a user name.", field="url")
    if problem := problem_with_public_url(url):
        raise BadFile(problem, field="url")
    if private_address_of(url):
        raise BadFile(f"{urlsplit(url).hostname} leads to a private host.", field="url")
    steps, until = Steps(url), time.monotonic() + PATIENCE_SECONDS
    try:
        with (
            outbound.public_client(provider.outbound(team, patience_seconds=PATIENCE_SECONDS), url) as http,
            http.stream("GET", url, extensions={"trace": steps}) as response,
        ):
            return _read(response, until=until)
    except outbound.Unusable as error:
        raise BadFile(str(error), field="url") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadFile(str(outbound.trouble(error, steps)), field="url") from None


def _read(response: httpx.Response, *, until: float) -> bytes:
    if response.is_redirect:
        raise BadFile("The address leads on to another one, which is not followed. Give the address where the file lies.", field="url")
    if response.status_code != 200:
        raise BadFile(f"The address answered {response.status_code} and no file.", field="url")
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise BadFile(f"The file is larger than {MOST_BYTES // (1024 * 1024)} MiB; a list of networks is not.", field="url")
        if time.monotonic() > until:
            raise BadFile(f"The file did not come within {PATIENCE_SECONDS:.0f} seconds. Download it, and upload it here.", field="url")
    return bytes(content)
