"""What a prompt must be before any model sees it."""

from __future__ import annotations

import re
import unicodedata

from core.errors import InputError

MAX_CHARS = 4000
_UNUSABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (Unicode's Cc) other than tab and newline, and surrogates (Cs)."""


def clean_prompt(text: str, max_chars: int = MAX_CHARS) -> str:
    """The prompt with "\\n" line ends and no white space around it; every other character stays as it is.

    Raises InputError where it is empty, longer than `max_chars` characters, or holds characters that cannot be drawn
    or sent: control characters other than tab and newline, and halves of surrogate pairs.
    """
    prompt = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if bad := _UNUSABLE.search(prompt):
        what = "half a surrogate pair" if "\ud800" <= bad[0] <= "\udfff" else "a control character"
        raise InputError(f"the prompt holds {what} (U+{ord(bad[0]):04X}, character {bad.start() + 1}); remove it")
    if all(unicodedata.category(char) in ("Cf", "Zs", "Cc") for char in prompt):
        raise InputError("the prompt is empty; say what to draw")
    if len(prompt) > max_chars:
        raise InputError(f"the prompt has {len(prompt):,} characters, more than {max_chars:,}; shorten it")
    return prompt
