"""What tests of pages wait for: a click returns when its page has begun to come, without styles and scripts yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect


def width(page: Page) -> int:
    """How wide the page is, when it is there with its styles."""
    page.wait_for_load_state()
    return page.evaluate("document.documentElement.scrollWidth")


@contextmanager
def redrawn(page: Page) -> Iterator[None]:
    """Change the form of a submission, and wait until its panel follows: a click on a button that is just replaced is lost."""
    page.wait_for_load_state()
    page.locator("#quote").evaluate("(panel) => panel.setAttribute('data-old', '')")
    yield
    expect(page.locator("#quote[data-old]")).to_have_count(0)
