"""Every error redraft raises on purpose, in one tree.

    RedraftError                 base; str(error) is shown to the user as it is
    ├── UsageError               the user can mend it                      exit code 2
    │   ├── InputError           a prompt, an image, a file, an option
    │   └── ConfigError          a profile or a setting
    │       └── MissingExtra     packages that a plain install leaves out (redraft/extras.py)
    └── BackendError             a model or a server failed                exit code 3
        ├── ModelMissing         there are no weights in the place that the profile names
        ├── ServerError          unreachable, timed out, or answered with an error
        └── BadReply             answered, but not with what was requested

Foreign exceptions are mapped to these at the boundary where the foreign library is called.
A message names the thing that is wrong and how to mend it. Errors are told apart by class, never by their message.
"""

from __future__ import annotations

import re

from redraft.secrets import scrub

_MOST_READ = 2**16
"""Characters of an error that are looked at."""


class RedraftError(Exception):
    """Base of all errors that redraft raises on purpose. No key is in their messages."""

    exit_code = 3

    def __init__(self, *args: object) -> None:
        super().__init__(*(scrub(arg) if isinstance(arg, str) else arg for arg in args))


class UsageError(RedraftError):
    """Something the user can mend."""

    exit_code = 2


class InputError(UsageError):
    """A prompt, image, file or option that cannot be used."""


class ConfigError(UsageError):
    """A profile or a setting that cannot be used."""


class MissingExtra(ConfigError):  # noqa: N818
    """Packages are needed that a plain install leaves out; the message names the extra that has them."""


class BackendError(RedraftError):
    """A model or a server failed."""


class ModelMissing(BackendError):  # noqa: N818
    """There are no weights in the place that the profile names."""


class ServerError(BackendError):
    """A server is unreachable, timed out, or answered with an error."""


class BadReply(BackendError):  # noqa: N818
    """A model answered, but not with what was requested."""


def one_line(error: object, length: int = 300) -> str:
    """The message of a foreign error, or a reply, on one line of at most `length` characters, without keys."""
    line = scrub(" ".join(str(error)[:_MOST_READ].split())) or type(error).__name__
    return line if len(line) <= length else line[: length - 3] + "..."


def printable(text: str) -> str:
    """`text` without control characters: a server, a model or a file name must not move the cursor or set a title. Marks
    that change the order in which text is shown appear as what they are (`show_directions`)."""
    return "".join(c if c in _KEPT or c.isprintable() else "\ufffd" for c in show_directions(text))


def show_directions(text: str) -> str:
    """`text` with the marks of the bidirectional algorithm as <U+202E>: nobody sees them, and they can make a text look
    like another one. Letters of any script are left as they are."""
    return _DIRECTIONS.sub(lambda mark: f"<U+{ord(mark[0]):04X}>", text)


_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_KEPT = frozenset("\n\t\u200c\u200d")
"""Joiners belong to emoji and to several scripts."""
