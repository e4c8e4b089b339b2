"""Text can be read on everything that it stands on, in light and in dark (WCAG 2.2, 1.4.3: at least 4.5 to 1)."""

import re

import pytest
from django.conf import settings

TOKENS = (settings.BASE_DIR / "accounts/static/portal/tokens.css").read_text()
COLOURS = {name: (light, dark) for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#\w{6}), (#\w{6})\);", TOKENS)}
SURFACES = ["page", "surface", "raised", "sunken", "hover"]
PAIRS = [
    *((text, on) for text in ("ink", "ink-soft", "accent-text") for on in SURFACES),
    *((colour, f"{colour}-wash") for colour in ("blue", "green", "red", "amber", "violet", "gray")),
    ("accent-text", "accent-wash"),
    ("red", "surface"),
    ("white", "accent"),
    ("white", "red-solid"),
]


def contrast(first, second):
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("text", "on"), PAIRS)
def test_text_stands_out_in_both_themes(text, on):
    texts = COLOURS.get(text, ("#ffffff", "#ffffff"))

    assert [contrast(colour, ground) >= 4.5 for colour, ground in zip(texts, COLOURS[on], strict=True)] == [True, True]
