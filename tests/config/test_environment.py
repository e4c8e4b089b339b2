"""Settings come from the environment as they stand there."""

import pytest

from config.environment import Environment


@pytest.mark.parametrize("value", ["$ecret", "$$", "a$b", r"\$x", r"a\$$b", "plain", ""])
def test_a_value_with_a_dollar_is_only_a_value(monkeypatch, value):
    monkeypatch.setenv("PLANTED", value)

    assert Environment().str("PLANTED") == value
    assert Environment().list("PLANTED") == ([value] if value else [])


def test_a_file_fills_in_what_the_environment_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setenv("PLANTED", "outside")
    monkeypatch.delenv("PLANTED_TOO", raising=False)
    (tmp_path / ".env").write_text("PLANTED=inside\nPLANTED_TOO=$inside\n")

    Environment.read_env(tmp_path / ".env")

    assert (Environment().str("PLANTED"), Environment().str("PLANTED_TOO")) == ("outside", "$inside")
    monkeypatch.delenv("PLANTED_TOO")
