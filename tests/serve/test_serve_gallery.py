"""The gallery: the pictures of all conversations, from what their replies say, and a search over them."""

from __future__ import annotations

import json

from agent.serve.service import _find_pictures


def reply(conversation: str, title: str, made_from: str, kind: str = "draw") -> tuple[str, str, str]:
    picture = {
        "number": 1, "image": "0" * 64, "made": "drawn", "made_from": made_from, "parent": None, "score": 0.9,
        "accepted": True, "unchecked": [], "run": None,
    }  # fmt: skip
    return conversation, title, json.dumps({"entry": {"kind": kind, "turn": 3}, "pictures": [picture]})


REPLIES = [
    reply("c2", "Night sky", "a yellow STAR"),
    reply("c2", "Night sky", "a yellow star", kind="back"),
    reply("c1", "Sea", "a boat"),
]


def test_what_was_drawn_is_shown_once_and_where() -> None:
    shown = [(one.conversation, one.title, one.turn, one.made_from) for one in _find_pictures(REPLIES, [])]
    assert shown == [("c2", "Night sky", 3, "a yellow STAR"), ("c1", "Sea", 3, "a boat")]


def test_all_words_have_to_stand_in_the_title_or_in_what_it_was_made_from() -> None:
    assert [one.made_from for one in _find_pictures(REPLIES, ["night", "star"])] == ["a yellow STAR"]
    assert _find_pictures(REPLIES, ["night", "boat"]) == []
