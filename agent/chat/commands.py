"""The explicit commands of a conversation: `/undo`, `/back 2`, `/seed 7`, …"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from redraft.errors import InputError

CommandName = Literal[
    "draw", "edit", "ask", "undo", "redo", "back", "compare", "accept", "save", "branch", "seed", "n", "questions", "open",
    "mask", "again", "list", "export", "help", "quit",
]  # fmt: skip

HELP: dict[CommandName, tuple[str, str]] = {
    "draw": ("PROMPT", "draw a new picture"),
    "edit": ("INSTRUCTION", "change the current picture"),
    "ask": ("QUESTION", "ask about the current picture"),
    "undo": ("", "take the last change back"),
    "redo": ("", "take back that it was taken back"),
    "back": ("N", "go back to picture N"),
    "compare": ("A B", "two pictures side by side"),
    "accept": ("[SCORE]", "take the current picture; with a score, accept pictures from there on"),
    "save": ("[FILE]", "save the current picture"),
    "branch": ("[NAME]", "continue in a branch of this conversation"),
    "seed": ("[N|off]", "draw with this seed, or with a new one each time"),
    "n": ("[N]", "make so many pictures of each request, each by a run of its own"),
    "questions": ("on|off", "whether you are asked if something is unclear"),
    "open": ("FILE", "bring a picture of your own"),
    "mask": ("FILE|off", "the next changes only where this picture is white"),
    "again": ("[SEED]", "continue a drawing that failed; else draw the same again, with a new seed or this one"),
    "list": ("", "the pictures of this conversation, and the other conversations"),
    "export": ("[FILE]", "this conversation as one HTML page"),
    "help": ("", "this list"),
    "quit": ("", "leave; everything is kept"),
}
WORDS: tuple[CommandName, ...] = ("draw", "edit", "ask")
"""Commands that take the rest of the line as it is."""


@dataclass(frozen=True)
class Command:
    name: CommandName
    arguments: tuple[str, ...] = ()


def parse_command(line: str) -> Command | None:
    """The command that a line gives, None for anything else. Raises InputError for one that cannot be followed."""
    bare = line.strip()
    if not bare.startswith("/"):
        return None
    word, _, rest = bare[1:].partition(" ")
    name = next((known for known in HELP if known == word.lower()), None)
    if name is None:
        raise InputError(f"there is no command /{word}; /help lists them")
    rest = rest.strip()
    if name in WORDS:
        if not rest:
            raise InputError(f"/{name} needs words behind it: {usage(name)}")
        return Command(name, (rest,))
    try:
        arguments = tuple(shlex.split(rest))
    except ValueError:
        raise InputError(f"a quotation mark of {bare!r} is never closed") from None
    shape = HELP[name][0]
    least = 0 if not shape or shape.startswith("[") else len(shape.split())
    most = len(shape.split())
    if not least <= len(arguments) <= most:
        raise InputError(f"/{name} is used so: {usage(name)}")
    return Command(name, arguments)


def usage(name: CommandName) -> str:
    return f"/{name} {HELP[name][0]}".rstrip()


def help_text() -> str:
    width = max(len(usage(name)) for name in HELP)
    lines = [f"{usage(name):<{width}}  {what}" for name, (_, what) in HELP.items()]
    return "\n".join(["Say what you want, or:", *lines])


def read_number(text: str, what: str, low: float, high: float) -> float:
    """The number that a user typed. Raises InputError."""
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what} is a number, not {text!r}") from None
    if not low <= value <= high:
        raise InputError(f"{what} lies between {low:g} and {high:g}, not at {value:g}")
    return value
