"""Styles of one's own, and what a prompt must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from redraft.errors import ConfigError, InputError
from rewriter.request import clean_request
from rewriter.styles import load_style

FILES = {
    "style.toml": 'system = false\n[guard]\nquotes = "content"\n',
    "rewrite.txt": "Better: {{request}}",
    "repair.txt": "{{request}} {{failed}}",
    "guard_repair.txt": "{{request}} {{before}}",
}


def write(folder: Path, **changes: str) -> str:
    for name, text in (FILES | {name.replace("_toml", ".toml"): text for name, text in changes.items()}).items():
        (folder / (name if "." in name else f"{name}.txt")).write_text(text, encoding="utf-8")
    return str(folder)


def test_a_style_of_ones_own(tmp_path: Path) -> None:
    style = load_style(write(tmp_path))
    assert style.system is None
    assert style.settings.guard.quotes == "content"
    (message,) = style.rewrite_messages("a cat")
    assert message.content == "Better: <user_prompt>\na cat\n</user_prompt>"
    (message,) = style.repair_messages("a cat", "before", ("x", "y"))
    assert message.content == "<user_prompt>\na cat\n</user_prompt> <found>\nx\ny\n</found>"


@pytest.mark.parametrize(
    ("request_", "read"),
    [
        ("A RED FOX WITH A SIGN THAT SAYS 'OPEN'", "A red fox with a sign that says 'OPEN'"),
        ("A NASA rocket in Paris", "A NASA rocket in Paris"),
        ("URTEN", "Urten"),
    ],
)
def test_a_style_can_read_what_is_shouted_as_it_is_usually_typed(request_: str, read: str, tmp_path: Path) -> None:
    style = load_style(write(tmp_path, style_toml='system = false\nfence = false\nfold = "shouted"\n'))
    assert style.rewrite_messages(request_)[0].content == f"Better: {read}"


@pytest.mark.parametrize("name", ["package:mini/rewriter/style", "promptenhancer"])
def test_built_in_styles_load(name: str) -> None:
    style = load_style(name)
    assert (style.system is not None) == style.settings.system


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rewrite": "no place for the prompt"}, "rewrite.txt.*must hold"),
        ({"repair": "{{request}} {{color}}"}, "repair.txt"),
        ({"style_toml": "sytem = true"}, "sytem"),
        ({"style_toml": "[guard]\nquotes = 'none'"}, r"guard\.quotes"),
        ({"style_toml": "[guard]\noff = ['languages']"}, "languages"),
        ({"style_toml": "= 3"}, "not valid TOML"),
        ({"style_toml": "system = true"}, "system"),
        ({"style_toml": "system = true", "system": "You are {{request}}"}, "placeholders"),
    ],
)
def test_mistakes_in_a_style_are_named(tmp_path: Path, changes: dict[str, str], complaint: str) -> None:
    folder = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=complaint):
        load_style(folder)


def test_a_style_without_settings(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "style.toml").unlink()
    with pytest.raises(ConfigError, match=r"style\.toml"):
        load_style(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a cat\r\non a mat\r\n", "a cat\non a mat"),
        ("don't “quote” 'me' «s» it’s", "don't “quote” 'me' «s» it’s"),
        ("tab\there", "tab\there"),
        ("👩‍🚀 می‌خواهم", "👩‍🚀 می‌خواهم"),
        ("x" * 4000, "x" * 4000),
        ("?!", "?!"),
    ],
)
def test_usable_prompts_stay_as_they_are(text: str, clean: str) -> None:
    assert clean_request(text) == clean


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\u200b\ufeff", "empty"),
        ("x" * 4001, "4,001 characters, more than 4,000"),
        ("a\0b", "U\\+0000, character 2"),
        ("\x1b[31mred", "U\\+001B"),
        ("\ud800", "surrogate"),
    ],
)
def test_unusable_prompts_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        clean_request(text)


def test_the_limit_is_a_setting() -> None:
    with pytest.raises(InputError):
        clean_request("four", max_chars=3)
