"""JSON is found in what models put around it, and mended; nothing that a reply broke off in is taken for whole."""

from __future__ import annotations

import time
from typing import Literal

import pytest
from pydantic import BaseModel

from redraft.json_replies import is_cut, json_in, read_json


class Reply(BaseModel):
    reason: str
    kind: Literal["draw", "edit"]
    steps: list[str] = []


WHOLE = '{"reason": "it {names} a \\"change\\"", "kind": "edit", "steps": ["make the star blue"]}'


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        f"```json\n{WHOLE}\n```",
        f"```{WHOLE}```",
        f"```json {WHOLE} ``` <|im_end|>",
        f'<think>{{"kind": "draw"}} or</think>\n{WHOLE}',
        f"Let me see {{request}}. Sure, here it is:\n\n{WHOLE}\n\nAnything else?",
        f'I first thought of {{"reason": "?", "kind": "draw"}}, but: {WHOLE}</s>',
        f"json\n{WHOLE}<|endoftext|><|endoftext|>{{",
    ],
)
def test_json_that_is_right_is_found_and_counts_as_it_is(text: str) -> None:
    reading = read_json(text, Reply)
    assert reading.value == Reply(reason='it {names} a "change"', kind="edit", steps=["make the star blue"])
    assert not reading.repaired
    assert read_json(json_in(text), Reply) == reading


@pytest.mark.parametrize(
    "text",
    [
        "{'reason': 'new', 'kind': 'draw',}",
        '{"reason": "new", "kind": "draw",}',
        '{reason: "new" "kind": "draw"}',
        'Here you are: ```json {"reason": "new", // as asked\n "kind": "draw"} ```',
        "{“reason”: “new”, “kind”: “draw”}",
    ],
)
def test_mistakes_are_mended_and_said(text: str) -> None:
    reading = read_json(text, Reply)
    assert reading.value == Reply(reason="new", kind="draw")
    assert reading.repaired


@pytest.mark.parametrize("end", range(1, len(WHOLE) - 1))
def test_a_reply_that_breaks_off_is_no_reply(end: int) -> None:
    with pytest.raises(ValueError, match="JSON"):
        read_json(WHOLE[:end], Reply)


class Entries(BaseModel):
    checks: list[dict[str, str]]


def test_a_cut_list_ends_with_its_last_whole_entry() -> None:
    whole = '{"reason": "x", "checks": [{"q": "Is it {red}?"}, {"q": "Is it big?"}, {"q": "Is it a star?"}]}'
    for end in range(whole.index("}, ") + 1, len(whole) - 2):
        reading = read_json(whole[:end], Entries, cut_ok=True)
        assert reading.cut
        assert reading.value.checks == [
            entry
            for entry in ({"q": "Is it {red}?"}, {"q": "Is it big?"}, {"q": "Is it a star?"})
            if f'"{entry["q"]}"}}' in whole[:end]
        ]


@pytest.mark.parametrize("text", ["", "no JSON", "<think>{", '<think>{"reason": "x", "kind": "draw"}', "[1, 2]", "{}"])
def test_what_is_no_reply(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_json(text, Reply)


def test_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match="kind"):
        read_json('{"reason": "x", "kind": "paint"}', Reply)


@pytest.mark.parametrize(
    ("text", "cut"),
    [('{"a": 1}', False), ('{"a": "}', True), ('x {"a": {"b": [1]} y', True), ('{"a": 1} {', False), ("none", False)],
)
def test_what_is_cut(text: str, cut: bool) -> None:
    assert is_cut(text) is cut


def test_nonsense_of_any_length_is_refused_in_time() -> None:
    started = time.process_time()
    for text in ("{" * 100_000, '{"a":' * 10_000, '{"a": [' + "1," * 60_000, "{'" * 5_000 + "}" * 5_000, "{}" * 50_000):
        with pytest.raises(ValueError, match=r"\w"):
            read_json(text, Reply)
    assert time.process_time() - started < 30
