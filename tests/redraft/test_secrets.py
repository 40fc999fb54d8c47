"""Keys are blotted out of texts in every spelling; `tests/agent/test_secrets.py` looks at what commands write."""

from __future__ import annotations

import logging
import time

import pytest

from redraft.errors import ConfigError, ServerError, one_line
from redraft.profiles import ServerConfig, read_key
from redraft.secrets import remember, scrub, scrub_output, scrub_value
from tests.ugly_keys import REFUSED, UGLY, spellings


@pytest.mark.parametrize("key", UGLY)
def test_a_key_is_blotted_out_in_every_spelling(key: str) -> None:
    key = key.strip()
    for name, spelling in spellings(key).items():
        clean = scrub(f"before {spelling} after", [key])
        assert clean.startswith("before "), name
        assert clean.endswith(" after"), name
        assert "***" in clean, name
        for rest in spellings(key).values():
            assert rest not in clean, name


def test_what_is_no_key_stays() -> None:
    text = "a red star, 100% wool, C:\\new\\star, data:image/png;base64,iVBORw0KGgo="
    assert scrub(text, ["sk-0123456789"]) == text
    assert scrub(text, []) == text


def test_a_long_text_without_the_key_is_looked_through_quickly() -> None:
    key = "s" * 40 + "k"
    started = time.process_time()
    for text in ("s " * 32_000, "\\" * 65_536, "s" * 65_536, "%25" * 20_000, " " * 65_536):
        scrub(text, [key])
    assert time.process_time() - started < 20


def test_keys_that_were_read_are_known_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE_IT_LIES", "sk-read-once-and-known")
    assert read_key("WHERE_IT_LIES") == "sk-read-once-and-known"
    monkeypatch.delenv("WHERE_IT_LIES")
    assert one_line(ValueError("illegal header b'Bearer sk-read-once-\nand-known'")) == "illegal header b'Bearer ***'"
    assert str(ServerError("no: sk-read-once-and-known")) == "no: ***"
    assert scrub_value({"a": ["sk-read-once-and-known", 1]}, ["sk-read-once-and-known"]) == {"a": ["***", 1]}


def test_variables_named_like_keys_and_passwords_in_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh\n")
    monkeypatch.setenv("SSH_KEY", "/home/somebody/key")
    assert scrub("Illegal header value b'Bearer hf_abcdefgh\\n'") == "Illegal header value b'Bearer ***\\n'"
    assert scrub("no file /home/somebody/key") == "no file /home/somebody/key"
    assert scrub("cannot reach postgresql://ann:hunter2@db/x") == "cannot reach postgresql://***@db/x"


def test_a_text_is_scrubbed_before_it_is_shortened() -> None:
    remember("sk-at-the-very-end-of-the-line")
    line = one_line("x" * 290 + " sk-at-the-very-end-of-the-line")
    assert "sk-" not in line


def test_logs_and_their_tracebacks_are_clean(caplog: pytest.LogCaptureFixture) -> None:
    remember("sk-in-a-log-record")
    scrub_output()
    scrub_output()
    try:
        raise ValueError("sk-in-a-log-record")
    except ValueError:
        logging.getLogger("somebody.else").exception("sent %s to %s", {"key": "sk-in-a-log-record"}, "x")
    assert "sent {'key': '***'} to x" in caplog.text
    assert "ValueError: ***" in caplog.text
    assert "sk-in" not in caplog.text


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_cannot_be_sent_or_hidden_is_refused_by_its_variables_name(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_VARIABLE", key)
    with pytest.raises(ConfigError, match="THE_VARIABLE") as caught:
        ServerConfig(base_url="http://127.0.0.1:1/v1", api_key_env="THE_VARIABLE").api_key()
    assert len(key.strip()) < 5 or key.strip() not in str(caught.value)


@pytest.mark.parametrize("value", ["EMPTY", "none", " not-needed ", "sk-no-key-required", "localhost"])
def test_a_word_in_place_of_a_key_is_sent_and_stays_in_what_is_written(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value)
    server = ServerConfig(base_url="http://localhost:8000/v1", api_key_env="OPENAI_API_KEY")
    assert server.api_key() == value.strip()
    text = f"the glass is {value.strip()}"
    assert scrub(text) == text


def test_a_key_in_place_of_its_variables_name_or_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must be the NAME"):
        ServerConfig(base_url="http://127.0.0.1:1/v1", api_key_env="hf_aBcDeFgHiJ0123456789")
    monkeypatch.setenv("THE_VARIABLE", "sk-in-the-path")
    with pytest.raises(ConfigError, match="base_url holds the key") as caught:
        ServerConfig(base_url="http://127.0.0.1:1/sk-in-the-path/v1", api_key_env="THE_VARIABLE").api_key()
    assert "sk-in" not in str(caught.value)
