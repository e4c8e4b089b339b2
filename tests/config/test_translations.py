"""Spanish is complete: each string that the code marks has its words, and no word is left from strings that are gone."""

import io
import re
from pathlib import Path

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils.translation.template import templatize

APPS = ["accounts", "billing", "config", "jobs", "webhooks"]
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")


def marked():
    """Every message that the code and the templates mark; plural ones as the pair of their forms."""
    found = set()
    for app in APPS:
        for path in (settings.BASE_DIR / app).rglob("*.py"):
            found |= messages_in(path.read_text())
    for path in [*(settings.BASE_DIR / "templates").rglob("*.html"), *(settings.BASE_DIR / "templates").rglob("*.txt")]:
        found |= messages_in(as_python(templatize(path.read_text())))
    return found


def as_python(source):
    """What Django makes for xgettext, in one bracket: Babel's tokenizer is strict about indents."""
    return "(" + source + "\n)"


def messages_in(source):
    return {message for _, message, _, _ in extract("python", io.BytesIO(source.encode()), keywords=KEYWORDS) if message}


@pytest.fixture(scope="module")
def spanish():
    path = Path(settings.LOCALE_PATHS[0]) / "es" / "LC_MESSAGES" / "django.po"
    return {message.id: message for message in read_po(io.BytesIO(path.read_bytes()), locale="es") if message.id}


def test_every_marked_string_has_its_spanish_words(spanish):
    strings = marked()

    assert len(strings) > 300
    assert sorted(map(str, strings - set(spanish))) == []
    assert [message.id for message in spanish.values() if message.fuzzy or not all(as_list(message.string))] == []


def test_no_words_are_left_from_strings_that_are_gone(spanish):
    assert sorted(map(str, set(spanish) - marked())) == []


def test_translations_name_the_same_placeholders(spanish):
    different = [
        message.id
        for message in spanish.values()
        for text in as_list(message.string)
        if sorted(PLACEHOLDER.findall(text)) != sorted(PLACEHOLDER.findall(as_list(message.id)[-1]))
    ]

    assert different == []


def test_sentences_stay_sentences(spanish):
    single = [message for message in spanish.values() if isinstance(message.id, str)]

    assert [message.id for message in single if message.id[-1] in ".?:" and message.string[-1] != message.id[-1]] == []


def as_list(text):
    return [text] if isinstance(text, str) else list(text)
