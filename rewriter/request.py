"""What a request must be before any model sees it."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from redraft.errors import InputError

MAX_CHARS = 4000
_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (Unicode's Cc) other than tab and newline, and surrogates (Cs)."""
_MEND = {"request": "say what to draw", "instruction": "say what to change"}


def clean_request(text: str, max_chars: int = MAX_CHARS, kind: Literal["request", "instruction"] = "request") -> str:
    """The request (or the instruction of an edit) with "\\n" line ends (for NEL, U+0085, too) and no white space around it.

    Every other character stays as it is. Raises InputError if it is empty, longer than `max_chars` characters, or holds
    characters that cannot be drawn or sent: control characters other than tab and newline, and halves of surrogate
    pairs.
    """
    text = text.strip()
    if len(text) > 2 * max_chars:  # before anything else is done with a stranger's text; "\r\n" counts as one character
        raise InputError(f"the {kind} has {len(text):,} characters, more than {max_chars:,}; shorten it")
    request = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n").strip()
    if bad := _UNUSABLE.search(request):
        what = "half a surrogate pair" if "\ud800" <= bad[0] <= "\udfff" else "a control character"
        raise InputError(f"the {kind} holds {what} (U+{ord(bad[0]):04X}, character {bad.start() + 1}); remove it")
    if all(unicodedata.category(char) in ("Cf", "Zs", "Cc") for char in request):
        raise InputError(f"the {kind} is empty; {_MEND[kind]}")
    if len(request) > max_chars:
        raise InputError(f"the {kind} has {len(request):,} characters, more than {max_chars:,}; shorten it")
    return request
