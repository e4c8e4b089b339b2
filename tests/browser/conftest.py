"""A real Chromium that reports everything it is unhappy about."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import pytest
from django.db import connections
from playwright.sync_api import Page, expect, sync_playwright

# Nothing takes as long, except on a machine that has much else to do.
PATIENCE_MILLISECONDS = 30_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (event) => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI))"
)

expect.set_options(timeout=PATIENCE_MILLISECONDS)


@dataclass
class Browser:
    """A page and its troubles: console errors, breaches of the content security policy, requests to other hosts."""

    page: Page
    address: str
    troubles: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.add_init_script(REPORT_VIOLATIONS)
        self.page.on("console", lambda message: self.troubles.append(message.text) if message.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._note_host(request.url))

    def _note_host(self, url: str) -> None:
        if urlsplit(url).scheme != "data" and not url.startswith(self.address + "/"):
            self.troubles.append(f"request to {url}")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page


@pytest.fixture
def browse_at(monkeypatch) -> Iterator[Callable[..., Browser]]:
    """Open a browser on a server, with Playwright's options for a context."""
    # Playwright runs its loop in this thread, and the tests write rows beside it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)

        def browse(address: str, **options: object) -> Browser:
            browser = Browser(page=chromium.new_context(**options).new_page(), address=address)
            browser.page.set_default_timeout(PATIENCE_MILLISECONDS)
            browser.watch()
            return browser

        yield browse
        chromium.close()


@pytest.fixture
def browse(live_server, browse_at) -> Iterator[Callable[..., Browser]]:
    """Open a browser on this process's own server; it is closed before the server is."""
    yield partial(browse_at, live_server.url)
    # Beside a running loop Django keeps a connection of its own, which nobody else gives back.
    connections.close_all()
