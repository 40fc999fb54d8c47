"""Keys, tokens and passwords: none of them is ever written, in any spelling.

    remember(key)                    # once, where a key is read
    scrub(f"refused: {error}")       # 'refused: ***'

`redraft.errors.one_line` scrubs, so every foreign error that is mapped is clean; `scrub_output` cleans the logs of this
process, and `ServerClient.scrub_reply` what a server says. Known are the keys that were remembered and the values of
environment variables that are named like keys (HF_TOKEN, AWS_SECRET_ACCESS_KEY, PGPASSWORD, …), beside the passwords in
addresses. NOT covered: a key that a server shortens, encrypts or draws into a picture.
"""

from __future__ import annotations

import os
import re
import sys
from binascii import b2a_base64
from collections.abc import Collection
from functools import lru_cache
from types import TracebackType
from typing import Any

SHORTEST = 8
"""Shorter keys are refused: their letters stand in ordinary words, and could be cut out of nothing that is written."""

_STAND_INS = frozenset(
    {
        "empty",
        "none",
        "null",
        "nokey",
        "no-key",
        "no-key-needed",
        "no-key-required",
        "not-needed",
        "not-required",
        "not-used",
    }
    | {
        "dummy",
        "fake",
        "ollama",
        "lm-studio",
        "local",
        "localhost",
        "sk-no-key-required",
        "sk-empty",
        "sk-none",
        "sk-dummy",
    }
)
"""In lower case."""

BLOT = "***"

_remembered: dict[str, None] = {}
_NAMED_LIKE_KEYS = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD)$|^PGPASSWORD$", re.IGNORECASE)
_ENTITIES = {'"': "quot", "&": "amp", "'": "apos", "<": "lt", ">": "gt"}
_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]{1,256}@")
_GAP = r"(?:\s|[\u00ad\u200b-\u200d\u2060\ufeff]|\\{1,8}[nrt]|%(?:25){0,2}(?:20|0[9ad])|&nbsp;){0,64}"
"""What may stand between two characters of a key: white space, also invisible, escaped or percent-encoded."""


def is_stand_in(value: str) -> bool:
    """Whether a value is no secret, but what is written for a key if a server wants none ("EMPTY")."""
    return value.strip().casefold() in _STAND_INS


def remember(secret: str) -> None:
    """From now on `scrub` blots `secret` out."""
    _remembered[secret] = None


def scrub(text: str, secrets: Collection[str] | None = None) -> str:
    """`text` with "***" for each of `secrets` (None: all that are known, and the passwords in addresses), whatever the
    spelling: as it is, in other case, escaped (JSON, Python, HTML), percent-encoded, in base64 or hex, split by white
    space."""
    if secrets is None:
        text = _ADDRESS.sub(f"{BLOT}@", text)
        secrets = {*_remembered, *_in_environment()}
    pattern = _pattern(frozenset(secrets))
    return text if pattern is None else pattern.sub(BLOT, text)


def scrub_value(value: Any, secrets: Collection[str]) -> Any:
    """A JSON value with all its strings scrubbed."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, list):
        return [scrub_value(item, secrets) for item in value]
    if isinstance(value, dict):
        return {scrub(key, secrets): scrub_value(item, secrets) for key, item in value.items()}
    return value


def scrub_output() -> None:
    """Makes the log records of this process clean, whichever library writes them, and the tracebacks of mistakes."""
    import logging
    import threading
    import traceback

    make = logging.getLogRecordFactory()
    if getattr(make, "scrubs", False):
        return

    def make_clean(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        try:
            record.msg, record.args = scrub(record.getMessage()), ()
        except (TypeError, ValueError):
            record.msg, record.args = scrub(f"{record.msg} {record.args}"), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = scrub("".join(traceback.format_exception(record.exc_info[1])).rstrip("\n"))
        return record

    def write(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(scrub("".join(traceback.format_exception(kind, error, trace))))

    make_clean.scrubs = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_clean)
    sys.excepthook = write
    threading.excepthook = lambda args: write(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _in_environment() -> set[str]:
    named = (value.strip() for name, value in os.environ.items() if _NAMED_LIKE_KEYS.search(name))
    keys = (value for value in named if len(value) >= SHORTEST and not is_stand_in(value))
    return {key for key in keys if not key.startswith(("/", "~", "./"))}


@lru_cache(maxsize=64)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    spellings = {form for secret in secrets for form in (secret, secret.encode("utf-8", "replace").hex())}
    spellings |= {form for secret in secrets for form in _in_base64(secret.encode("utf-8", "replace"))}
    if not spellings:
        return None
    longest_first = sorted(spellings, key=lambda form: (-len(form), form))
    return re.compile("|".join(_GAP.join(map(_spell, form)) for form in longest_first), re.IGNORECASE)


def _spell(char: str) -> str:
    """A pattern for one character in its spellings."""
    code, octets = ord(char), "".join(f"%(?:25){{0,2}}{octet:02x}" for octet in char.encode("utf-8", "replace"))
    ways = [re.escape(char), octets, rf"\\{{1,8}}(?:u{{?0*{code:x}}}?|x{code:02x})", f"&#(?:0*{code}|x0*{code:x});"]
    if char in _ENTITIES:
        ways.append(f"&{_ENTITIES[char]};")
    return rf"(?:\\{{0,8}}(?:{'|'.join(ways)}))"


def _in_base64(secret: bytes) -> set[str]:
    """What base64 makes of a secret within other text ("user:KEY"), which depends on where it begins there; without the
    characters that its neighbours have a part in."""
    forms = set()
    for before in range(3):
        coded = b2a_base64(bytes(before) + secret, newline=False).decode().rstrip("=")
        whole = (before + len(secret)) * 8 // 6
        forms |= {(core := coded[(0, 2, 3)[before] : whole]), core.translate(str.maketrans("+/", "-_"))}
    return forms
