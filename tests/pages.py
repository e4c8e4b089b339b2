"""Pages as people read them, and what none of ours may hold."""

import html
import re
from typing import Any

# Scripts and styles in the page itself, which the content security policy forbids.
INLINE = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)


def words(response: Any) -> str:
    """The main part of a page as it is read."""
    text = re.sub("<[^>]+>", " ", response.content.decode().split("<main")[1])
    return " ".join(html.unescape(text).split())
