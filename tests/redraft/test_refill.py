"""redraft.transformers_chat: rows join and leave a running batch, and say what they would have said alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MambaConfig, MambaForCausalLM

from redraft.chat import ChatReply, ChatRequest, Message
from redraft.local_models import LocalModel, load_local
from redraft.profiles import LocalConfig, ModelConfig
from redraft.transformers_chat import Refill, Running, TransformersChat, can_refill

WORDS = ["a", "a blue square above a red circle above a red square", "a red circle", "no yes above", "user", "red"]


def config_of(folder: Path, micro_batch: int) -> ModelConfig:
    return ModelConfig(kind="transformers", model=str(folder), local=LocalConfig(device="cpu", micro_batch=micro_batch))


@pytest.fixture(scope="module")
def lm(tiny_lm: Path) -> LocalModel:
    return load_local(config_of(tiny_lm, 4))


class Length:
    """A row that is done after so many tokens."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.abandoned = False

    def ends(self, tokens: list[int]) -> bool:
        return False


def likeliest(jobs: Any) -> Any:
    return lambda logits: logits.argmax(-1)


def alone(lm: LocalModel, prompt: list[int], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    for _ in range(count):
        ids = torch.cat([ids, lm.model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids[0, len(prompt) :].tolist()


def test_rows_join_and_leave_while_others_run(lm: LocalModel) -> None:
    """Ten rows of different lengths through a batch of four: shorter ones join longer ones, and the other way round."""
    lengths = [3, 12, 5, 9, 1, 7, 2, 11, 4, 6]
    texts = [WORDS[i % len(WORDS)] * (1 + i % 3) for i in range(10)]
    waiting = [Running(Length(n), lm.tokenizer.encode(text)) for n, text in zip(lengths, texts, strict=True)]
    rows, done, most, joined_late = list(waiting), [], 0, 0
    batch = Refill(lm.model, 4, likeliest)
    with torch.inference_mode():
        while waiting or batch.running:
            wanted = batch.wants(len(waiting))
            joined_late += wanted if batch.running else 0
            new, waiting = waiting[:wanted], waiting[wanted:]
            done += batch.join(new) if new else []
            most = max(most, batch.running)
            done += batch.step() if batch.running else []
        assert len(done) == 10
        assert most == 4
        assert joined_late >= 5
        for row, count in zip(rows, lengths, strict=True):
            assert row.tokens == alone(lm, row.prompt, count)


async def test_a_request_joins_a_batch_that_runs(tiny_lm: Path) -> None:
    """A short request that comes later is answered long before the long one that was there first."""
    chat = TransformersChat(config_of(tiny_lm, 4))
    await chat(ask("load", 1))
    order: list[str] = []

    async def call(words: str, count: int, wait: float) -> ChatReply:
        await asyncio.sleep(wait)
        reply = await chat(ask(words, count))
        order.append(words)
        return reply

    long, short = await asyncio.gather(call("a", 200, 0), call("a red circle", 3, 0.01))
    assert long.usage.completion_tokens > 50
    assert order == ["a red circle", "a"]
    assert short == await chat(ask("a red circle", 3))


def ask(words: str, count: int) -> ChatRequest:
    return ChatRequest((Message("user", words),), max_tokens=count)


def test_a_fault_empties_the_batch(lm: LocalModel) -> None:
    batch = Refill(lm.model, 4, likeliest)
    rows = [Running(Length(5), [1, 2, 3]), Running(Length(1), [1, 2, 3])]
    with torch.inference_mode():
        assert batch.join(rows) == rows[1:]
        assert batch.leave() == rows[:1]
        assert batch.running == 0
        fresh = Running(Length(2), rows[0].prompt)
        batch.join([fresh])
        assert batch.step() == [fresh]
        assert fresh.tokens == alone(lm, fresh.prompt, 2)


def test_which_models_can(lm: LocalModel) -> None:
    assert can_refill(lm.model)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 16}
    assert not can_refill(Gemma3ForCausalLM(Gemma3TextConfig(**sizes, **heads, sliding_window=8)))
    assert not can_refill(MambaForCausalLM(MambaConfig(**sizes)))


async def test_models_that_cannot_are_batched_all_the_same(tiny_lm: Path, tmp_path: Path) -> None:
    """A model with sliding windows, saved beside the tokenizer of the tiny one."""
    torch.manual_seed(0)
    tokenizer = load_local(config_of(tiny_lm, 4)).tokenizer
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=8, pad_token_id=0, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    chat = TransformersChat(config_of(tmp_path, 4))
    requests = [ask(words, 6) for words in WORDS]
    singles = [await chat(request) for request in requests]
    assert await asyncio.gather(*(chat(request) for request in requests)) == singles
