"""Choices of redraft.chat.OpenAIChat: their probabilities on vLLM, on servers without its fields, and where none come."""

from __future__ import annotations

import math
from typing import Any

import pytest

from redraft.chat import NEVER, ChatRequest, by_spelling, spellings
from redraft.errors import BackendError, BadReply
from tests.redraft.conftest import Answer, Call
from tests.redraft.openai_chats import ASK, Serve, chat_to, error, reply

VOCABULARY = {"yes": [10], "Yes": [11], " yes": [12], "no": [20], " no": [21]}
CHOOSE = ChatRequest(ASK.messages, choices=("yes", "no"))


def vllm(call: Call) -> Answer:
    if call.path == "/tokenize":
        tokens = VOCABULARY.get(call.body["prompt"], [1, 2])
        return Answer({"tokens": tokens, "count": len(tokens), "max_model_len": 256})
    logs = {10: math.log(0.5), 11: math.log(0.25), 12: -30.0, 20: math.log(0.125), 21: NEVER, 99: -0.1}
    entries = [{"token": f"token_id:{i}", "logprob": logs[i]} for i in (*call.body["logprob_token_ids"], 99)]
    return reply("", finish_reason="length", logprobs={"content": [{"token": "token_id:10", "top_logprobs": entries}]})


async def test_choices_on_vllm(serve: Serve) -> None:
    server = serve(vllm)
    chat = chat_to(server)
    got = await chat(CHOOSE)
    assert {choice: math.exp(log) for choice, log in got.logprobs.items()} == pytest.approx({"yes": 0.75, "no": 0.125})
    assert got.text == "yes"
    sent = server.calls[-1].body
    wanted = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "return_tokens_as_token_ids": True}
    assert sent.items() >= (wanted | {"logprob_token_ids": [10, 11, 12, 20, 21]}).items()
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    before = len(server.calls)
    await chat(CHOOSE)
    assert len(server.calls) == before + 1  # the ids are known by now


def top20(call: Call) -> Answer:
    """A server such as OpenAI's: no /tokenize, no fields that it does not know."""
    if call.path != "/v1/chat/completions":
        return error(404)
    if "logprob_token_ids" in call.body:
        return error(400, "Unrecognized request argument")
    entries = [{"token": " Yes", "logprob": math.log(0.5)}, {"token": "yes", "logprob": math.log(0.25)}]
    return reply(" Yes", logprobs={"content": [{"token": " Yes", "top_logprobs": entries}]})


async def test_choices_elsewhere(serve: Serve) -> None:
    server = serve(top20)
    chat = chat_to(server)
    got = await chat(CHOOSE)
    assert math.exp(got.logprobs["yes"]) == pytest.approx(0.75)
    assert got.logprobs["no"] == NEVER
    assert server.calls[-1].body["top_logprobs"] == 20
    before = len(server.calls)
    await chat(CHOOSE)
    assert len(server.calls) == before + 1


@pytest.mark.parametrize("refuses", [True, False])
async def test_choices_where_only_the_tokenizer_is_vllms(serve: Serve, refuses: bool) -> None:
    """Some proxies pass /tokenize on, but refuse or ignore the ids."""

    def proxy(call: Call) -> Answer:
        if call.path == "/tokenize":
            return vllm(call)
        return top20(Call(call.path, call.body if refuses else {"messages": []}, {}))

    assert math.exp((await chat_to(serve(proxy))(CHOOSE)).logprobs["yes"]) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("logprobs", "words"),
    [
        (None, "no log probabilities"),
        ({"content": []}, "no log probabilities"),
        ({"content": [{"top_logprobs": [{"token": "yes", "logprob": "high"}]}]}, "for a log probability"),
        ({"content": [{"top_logprobs": [{"token": "yes", "logprob": math.nan}]}]}, "for a log probability"),
        ({"content": [{"top_logprobs": [{"token": "yes", "logprob": 2.0}]}]}, "for a log probability"),
        ({"content": [{"top_logprobs": ["yes"]}]}, "for a log probability"),
    ],
)
async def test_choices_that_cannot_be_read(serve: Serve, logprobs: Any, words: str) -> None:
    server = serve(lambda call: reply(logprobs=logprobs) if "chat" in call.path else Answer(b"<html>"))
    with pytest.raises(BadReply, match=words):
        await chat_to(server)(CHOOSE)


async def test_a_choice_that_is_no_token(serve: Serve) -> None:
    with pytest.raises(BackendError, match="'maybe' is not a single token of m"):
        await chat_to(serve(vllm))(ChatRequest(ASK.messages, choices=("yes", "maybe")))


def test_yes_and_no_count_in_the_languages_that_questions_come_in() -> None:
    logs = {
        "是": math.log(0.6),
        "yes": math.log(0.1),
        "否": math.log(0.2),
        "ja": math.log(0.05),
        " nein": math.log(0.02),
    }
    got = {choice: math.exp(log) for choice, log in by_spelling(("yes", "no"), logs).items()}
    assert got == pytest.approx({"yes": 0.75, "no": 0.22})
    assert "是" not in spellings(("yes", "maybe"))["yes"]
