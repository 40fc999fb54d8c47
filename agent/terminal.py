"""Pictures inside a terminal, where the terminal says that it can show them.

Three ways are spoken: kitty's graphics protocol, iTerm2's inline images, and sixel. Which one a terminal knows is read
from its environment variables, never asked over the line: an answer that comes late would end up in the user's shell.
REDRAFT_IMAGES=kitty|iterm2|sixel|none overrides the guess.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Literal

from PIL import Image

Way = Literal["kitty", "iterm2", "sixel"]

_CHUNK = 4096
"""Most base64 characters in one escape sequence of the kitty protocol."""


def way_of(env: Mapping[str, str], is_tty: bool) -> Way | None:
    """How the terminal described by `env` shows pictures; None where it does not, or is no terminal."""
    wish = env.get("REDRAFT_IMAGES", "").lower()
    if not is_tty or wish == "none":
        return None
    for way in ("kitty", "iterm2", "sixel"):
        if wish == way:
            return way
    term, program = env.get("TERM", ""), env.get("TERM_PROGRAM", "")
    if env.get("TMUX") or term.startswith(("screen", "tmux")) or term in ("", "dumb"):
        return None  # a multiplexer swallows the sequences or shows them as text
    if env.get("KITTY_WINDOW_ID") or "kitty" in term or "ghostty" in term or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or env.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    if term.startswith(("foot", "mlterm", "contour", "yaft")) or "sixel" in term:
        return "sixel"
    return None


def inline(picture: Image.Image, way: Way, side: int = 320) -> str:
    """The escape sequences that show `picture`, at most `side` pixels wide and high, at the cursor."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    if way == "sixel":
        return "".join(_sixel(small))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    if way == "iterm2":
        size = len(buffer.getvalue())
        return f"\x1b]1337;File=inline=1;size={size};width={small.width}px;height={small.height}px:{data}\x07"
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    parts = []
    for index, chunk in enumerate(chunks):
        head = "a=T,f=100,q=2," if index == 0 else ""
        parts.append(f"\x1b_G{head}m={int(index < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(parts)


def _sixel(picture: Image.Image, colours: int = 128) -> Iterator[str]:
    """DEC sixel data: a palette, then bands of six rows, one pass per colour of the band, runs shortened."""
    indexed = picture.quantize(colours, dither=Image.Dither.NONE)
    palette = indexed.getpalette() or []
    pixels = indexed.load()
    assert pixels is not None
    width, height = indexed.size
    yield f'\x1bPq"1;1;{width};{height}'
    for index in range(len(palette) // 3):
        red, green, blue = (round(value * 100 / 255) for value in palette[3 * index : 3 * index + 3])
        yield f"#{index};2;{red};{green};{blue}"
    for top in range(0, height, 6):
        rows = range(top, min(top + 6, height))
        band: dict[int, list[int]] = {}
        for bit, y in enumerate(rows):
            for x in range(width):
                colour = pixels[x, y]
                assert isinstance(colour, int)
                band.setdefault(colour, [0] * width)[x] |= 1 << bit
        for colour, columns in band.items():
            yield f"#{colour}{_runs(columns)}$"
        yield "-"
    yield "\x1b\\"


def _runs(columns: list[int]) -> str:
    parts, at = [], 0
    while at < len(columns):
        end = at
        while end < len(columns) and columns[end] == columns[at]:
            end += 1
        char = chr(63 + columns[at])
        parts.append(f"!{end - at}{char}" if end - at > 3 else char * (end - at))
        at = end
    return "".join(parts)
