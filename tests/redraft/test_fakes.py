"""redraft.testing: the scripted chat model, and the choices that every reader of first tokens shares."""

from __future__ import annotations

import asyncio
import math

import pytest
from PIL import Image

from redraft.chat import NEVER, ChatModel, ChatReply, ChatRequest, Message, add_logs, by_spelling, choice_ids, spellings
from redraft.errors import BackendError, BadReply
from redraft.testing import FakeChat, text_of

ASK = ChatRequest((Message("system", "be brief"), Message("user", (Image.new("RGB", (2, 2)), "a cat"))))


async def test_a_list_is_used_up_in_order() -> None:
    chat = FakeChat(["one", BadReply("garbage"), ChatReply("three", truncated=True)])
    assert isinstance(chat, ChatModel)
    assert (await chat(ASK)).text == "one"
    with pytest.raises(BadReply, match="garbage"):
        await chat(ASK)
    assert (await chat(ASK)).truncated
    with pytest.raises(AssertionError, match="call 4"):
        await chat(ASK)
    assert chat.requests == [ASK] * 4


async def test_a_function_sees_the_request() -> None:
    chat = FakeChat(lambda request: text_of(request).upper(), name="loud")
    reply = await chat(ASK)
    assert (reply.text, reply.model, chat.name) == ("BE BRIEF\nA CAT", "loud", "loud")


async def test_delays_overlap() -> None:
    chat = FakeChat(["a", "b", "c"], delay_s=0.01)
    assert [reply.text for reply in await asyncio.gather(*(chat(ASK) for _ in range(3)))] == ["a", "b", "c"]
    assert chat.most_at_once == 3


def test_spellings() -> None:
    words = spellings(("yes", "no"))
    assert words["yes"][:2] == ("yes", " yes")
    assert {"no", " no", "No", " No", "NO", " NO", "nein", "否"} <= set(words["no"])
    assert set(spellings(("up", "down"))["up"]) == {"up", " up", "Up", " Up", "UP", " UP"}


def test_no_spelling_counts_twice() -> None:
    assert spellings(("A", "a")) == {"A": ("A", " A"), "a": ("a", " a")}
    words = spellings(("Go", "go"))
    assert set(words["Go"]) == {"Go", " Go"}
    assert set(words["go"]) == {"go", " go"}


@pytest.mark.parametrize("choices", [("yes", "yes"), (" yes",), ("",)])
def test_choices_that_make_no_sense(choices: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="choices"):
        spellings(choices)


def test_choice_ids_take_single_tokens_only() -> None:
    vocabulary = {"yes": [7], "Yes": [8], " yes": [7], "no": [9], "NO": [1, 2]}
    ids = choice_ids(("yes", "no"), lambda text: vocabulary.get(text, [0, 0]), "m")
    assert ids == {"yes": (7, 8), "no": (9,)}
    with pytest.raises(BackendError, match="'maybe' is not a single token of m"):
        choice_ids(("maybe",), lambda text: [0, 0], "m")


def test_probabilities_of_spellings_add_up() -> None:
    logs = by_spelling(("yes", "no"), {"yes": math.log(0.25), " Yes": math.log(0.5), "maybe": math.log(0.2)})
    assert math.exp(logs["yes"]) == pytest.approx(0.75)
    assert logs["no"] == NEVER
    assert add_logs([NEVER, NEVER]) == NEVER
    assert add_logs([math.log(0.5), math.log(0.5), math.log(0.001)]) == 0.0
