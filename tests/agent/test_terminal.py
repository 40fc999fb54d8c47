"""Pictures in terminals: who is shown what, and that the bytes decode to the picture again."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from agent.terminal import Way, inline, way_of


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, "blocks"),
        ({"TERM": "xterm", "COLORTERM": "truecolor", "LC_ALL": "C.utf8"}, "blocks"),
        ({"TERM": "screen-256color", "TMUX": "/tmp/tmux", "LANG": "en_US.UTF-8"}, "blocks"),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8", "LC_ALL": "C"}, None),
        ({"TERM": "dumb"}, None),
        ({}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "xterm-kitty", "REDRAFT_IMAGES": "none"}, None),
        ({"TERM": "xterm-256color", "REDRAFT_IMAGES": "sixel"}, "sixel"),
    ],
)
def test_way(env: dict[str, str], expected: Way | None) -> None:
    assert way_of(env, is_tty=True) == expected


def test_no_pictures_into_files_and_pipes() -> None:
    assert way_of({"TERM": "xterm-kitty", "REDRAFT_IMAGES": "kitty"}, is_tty=False) is None


def picture() -> Image.Image:
    image = Image.new("RGB", (40, 20), "white")
    image.paste((255, 0, 0), (10, 5, 30, 15))
    return image


def test_kitty_chunks_hold_the_png() -> None:
    noisy = Image.effect_noise((300, 300), 80)
    text = inline(noisy, "kitty")
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert len(chunks) > 2
    assert all(len(data) <= 4096 for _, data in chunks)
    assert all(options.endswith("m=1") for options, _ in chunks[:-1])
    assert chunks[-1][0].endswith("m=0")
    with Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in chunks)))) as decoded:
        assert decoded.size == (300, 300)


def test_iterm2_says_its_size_and_holds_the_png() -> None:
    text = inline(picture(), "iterm2")
    match = re.fullmatch(r"\x1b]1337;File=inline=1;size=(\d+);width=40px;height=20px:(.*)\x07", text)
    assert match is not None
    data = base64.b64decode(match[2])
    assert len(data) == int(match[1])


def test_sixel_draws_every_pixel_once_in_its_colour() -> None:
    assert unsixel(inline(picture(), "sixel")) == [picture().getpixel((x, y)) for y in range(20) for x in range(40)]


def test_half_blocks_show_two_pixels_each() -> None:
    image = Image.new("RGB", (2, 3), "white")
    image.paste((255, 0, 0), (0, 1, 2, 2))
    lines = inline(image, "blocks", side=24, all_colours=True).split("\n")
    assert lines == [
        "\x1b[38;2;255;255;255;48;2;255;0;0m▀" * 2 + "\x1b[0m",
        "\x1b[38;2;255;255;255;49m▀" * 2 + "\x1b[0m",
    ]
    assert inline(image, "blocks", side=24, all_colours=False).startswith("\x1b[38;5;231;48;5;196m▀")


def test_large_pictures_are_made_small() -> None:
    text = inline(Image.new("RGB", (2000, 1000)), "iterm2", side=100)
    assert "width=100px;height=50px" in text


def unsixel(text: str) -> list[tuple[int, ...] | None]:
    """A small sixel reader: the colours of all pixels, row by row; None where nothing was drawn."""
    head = re.match(r'\x1bPq"1;1;(\d+);(\d+)', text)
    assert head is not None
    assert text.endswith("\x1b\\")
    width, height = int(head[1]), int(head[2])
    pixels: dict[tuple[int, int], tuple[int, ...]] = {}
    palette: dict[int, tuple[int, ...]] = {}
    colour, x, top = 0, 0, 0
    for token in re.findall(r"#\d+(?:;2;\d+;\d+;\d+)?|!\d+[?-~]|[?-~]|[$-]", text[head.end() : -2]):
        if token[0] == "#":
            number, *rest = token[1:].split(";")
            colour = int(number)
            if rest:
                palette[colour] = tuple(round(int(part) * 255 / 100) for part in rest[1:])
        elif token == "$":
            x = 0
        elif token == "-":
            x, top = 0, top + 6
        else:
            count = int(token[1:-1]) if token[0] == "!" else 1
            rows = [bit for bit in range(6) if (ord(token[-1]) - 63) >> bit & 1]
            for place in [(column, top + bit) for column in range(x, x + count) for bit in rows]:
                assert place not in pixels
                pixels[place] = palette[colour]
            x += count
    return [pixels.get((x, y)) for y in range(height) for x in range(width)]
