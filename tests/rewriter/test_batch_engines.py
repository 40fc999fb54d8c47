"""Engines that need more than this environment has: vLLM in process by a stand-in for its LLM, Ray's row functions."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from redraft.chat import ChatRequest, Message
from redraft.errors import BackendError, BadReply, ConfigError, InputError, MissingExtra
from redraft.profiles import LocalConfig, ModelConfig, RewriterConfig, ServerConfig, load_profile
from redraft.scope import open_scope
from rewriter.batch.engines import ENGINES, BatchEngine, FakeEngine, VllmEngine, open_engine
from rewriter.batch.maker import ScoreSelector, load_scorer
from rewriter.batch.ray_rows import FIRST, RayRows, enhance_dataset
from rewriter.types import Rewrite

MODEL = ModelConfig(kind="transformers", model="some/model")


class Tokenizer:
    """One id a character; <|end|> is special."""

    chat_template = "x"
    all_special_tokens = ("<|end|>",)
    added_tokens_decoder: dict[int, Any] = {}  # noqa: RUF012

    def apply_chat_template(self, conversation: list[dict[str, str]], **settings: Any) -> str:
        assert settings["add_generation_prompt"]
        return "".join(f"{turn['role']}:{turn['content']}\n" for turn in conversation)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [ord(char) for char in text]


@dataclass
class Said:
    text: str
    token_ids: list[int]
    finish_reason: str


@dataclass
class Output:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[Said]
    finished: bool


@dataclass
class StandIn:
    """What VllmEngine uses of `vllm.LLM`. A request is done after as many steps as its prompt's last digit says. No step counts
    before `first` requests have come: threads may hand them over one by one."""

    first: int = 0
    most: int = 0
    steps: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    _running: dict[str, tuple[list[int], Any, int]] = field(default_factory=dict)

    @property
    def llm_engine(self) -> StandIn:
        return self

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def add_request(self, request_id: str, prompt: dict[str, list[int]], params: dict[str, Any]) -> None:
        text = "".join(map(chr, prompt["prompt_token_ids"]))
        if "refuse" in text:
            raise ValueError("prompt too long")
        self.seen.append(params)
        self._running[request_id] = (prompt["prompt_token_ids"], text, self.steps + int(text.strip()[-1]))
        self.most = max(self.most, len(self._running))

    def abort_request(self, request_ids: list[str]) -> None:
        for name in request_ids:
            self.aborted.append(self._running.pop(name)[1].strip())

    def step(self) -> list[Output]:
        if len(self.seen) < self.first:
            time.sleep(0.001)
            return []
        self.steps += 1
        outputs = []
        for name, (ids, text, end) in list(self._running.items()):
            if "explode" in text:
                self._running.clear()
                raise RuntimeError("the engine died")
            done = self.steps >= end
            if done:
                del self._running[name]
            said = "" if "mute" in text else f"said {text.strip()}"
            outputs.append(Output(name, ids, [Said(said, [1, 2], "length" if "long" in text else "stop")], done))
        return outputs


def ask(words: str, **settings: Any) -> ChatRequest:
    return ChatRequest((Message("user", words),), **settings)


def engine(llm: StandIn, **settings: Any) -> VllmEngine:
    return VllmEngine(MODEL, window=8, llm=llm, sampling=dict, **settings)


async def test_vllm_answers_each_as_it_is_done() -> None:
    llm = StandIn(first=3)
    vllm: BatchEngine = engine(llm)
    order: list[str] = []

    async def call(words: str) -> str:
        reply = await vllm(ask(words, temperature=0.7, top_p=0.9, seed=-1, max_tokens=9))
        order.append(words)
        return reply.text

    texts = await asyncio.gather(*(call(words) for words in ("slow 9", "quick 1", "long 4")))
    assert texts == ["said user:slow 9", "said user:quick 1", "said user:long 4"]
    assert order == ["quick 1", "long 4", "slow 9"]
    assert llm.most == 3
    assert llm.seen[0] == {"max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "seed": 2**63 - 1, "stop": []}
    long, plain = await asyncio.gather(vllm(ask("long 1")), vllm(ask("plain <|end|> 1")))
    assert long.truncated
    assert not plain.truncated
    assert (plain.model, plain.usage.completion_tokens) == ("some/model", 2)
    assert plain.text == "said user:plain < |end|> 1"
    await vllm.aclose()


async def test_vllm_faults_reach_those_who_asked() -> None:
    vllm = engine(StandIn())
    fine, refused, mute = await asyncio.gather(
        vllm(ask("fine 3")), vllm(ask("refuse 1")), vllm(ask("mute 2")), return_exceptions=True
    )
    assert getattr(fine, "text", "") == "said user:fine 3"
    assert isinstance(refused, BackendError)
    assert "ValueError: prompt too long" in str(refused)
    assert isinstance(mute, BadReply)
    dead = await asyncio.gather(vllm(ask("explode 3")), vllm(ask("with it 9")), return_exceptions=True)
    assert all(isinstance(error, BackendError) and "the engine died" in str(error) for error in dead)
    assert (await vllm(ask("again 1"))).text == "said user:again 1"
    await vllm.aclose()


async def test_who_does_not_wait_any_more_disturbs_nobody() -> None:
    llm = StandIn()
    vllm = engine(llm)
    gone = asyncio.create_task(vllm(ask("gone 9")))
    await asyncio.sleep(0)
    gone.cancel()
    assert (await vllm(ask("here 2"))).text == "said user:here 2"
    await vllm.aclose()


async def test_a_request_that_nobody_waits_for_is_aborted() -> None:
    begun = threading.Event()

    class Endless(StandIn):
        def step(self) -> list[Output]:
            begun.set()
            time.sleep(0.001)
            return []

    llm = Endless()
    vllm = engine(llm)
    gone = asyncio.create_task(vllm(ask("gone 9")))
    await asyncio.to_thread(begun.wait, 60)
    gone.cancel()
    await vllm.aclose()
    assert llm.aborted == ["user:gone 9"]


async def test_vllm_that_is_not_installed() -> None:
    vllm = VllmEngine(MODEL)
    with pytest.raises(MissingExtra, match=r"extra vllm.* in a separate environment"):
        await vllm(ask("a fox"))
    await vllm.aclose()


def test_which_engine() -> None:
    served = MODEL.model_copy(update={"kind": "openai", "server": ServerConfig(base_url="http://127.0.0.1:1/v1")})
    local = MODEL.model_copy(update={"local": LocalConfig(micro_batch=16)})
    assert open_engine(served).window == 256
    assert open_engine(served, concurrency=7).window == 7
    assert open_engine(local).window == 32
    assert open_engine(local, concurrency=100).window == 200
    assert isinstance(open_engine(local, "vllm"), VllmEngine)
    assert isinstance(open_engine(local, "fake"), FakeEngine)
    with pytest.raises(ConfigError, match=r"no \[server\] table"):
        open_engine(local, "server")
    assert set(ENGINES) == {"auto", "server", "transformers", "vllm", "fake"}


CONFIG = RewriterConfig(model=MODEL, style="promptenhancer", max_tokens=100)


def replied(row: dict[str, Any], text: str, tokens: int = 20) -> dict[str, Any]:
    """The row as Ray's vLLM processor hands it on."""
    return {**row, "generated_text": text, "num_input_tokens": 9, "num_generated_tokens": tokens, "batch_uuid": "x"}


def test_ray_rows_that_pass_at_once() -> None:
    rows: RayRows = pickle.loads(pickle.dumps(RayRows.of(CONFIG, field="words", target="flux", thought=True)))
    asked = rows.ask({"id": 7, "words": " three red foxes "})
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert "three red foxes" in asked["messages"][1]["content"]
    assert asked["sampling_params"]["temperature"] == 0.0
    assert asked["sampling_params"]["max_tokens"] == 100
    read = rows.read(replied(asked, "<think>so</think><answer>Three red foxes sit on a wall.</answer>"))
    assert read == {
        "id": 7,
        "words": " three red foxes ",
        "request": "three red foxes",
        "prompt": "Three red foxes sit on a wall.",
        "thought": "so",
        "model": "some/model",
        "findings": [],
        "status": "rewritten",
        "seed": read["seed"],
        FIRST: "",
    }


@pytest.mark.parametrize(
    ("second", "status", "rewrite"),
    [
        ("Three red foxes sit on a wall.", "rewritten", "Three red foxes sit on a wall."),
        ("Two red foxes sit on a wall.", "kept", "three red foxes"),
    ],
)
def test_ray_rows_that_need_another_try(second: str, status: str, rewrite: str) -> None:
    rows = RayRows.of(CONFIG, field="prompt")
    said = "<think>so</think><answer>Five red foxes sit on a wall.</answer>"
    first = rows.read(replied(rows.ask({"prompt": "three red foxes"}), said))
    assert first[FIRST]
    again = rows.ask_again(first)
    assert "Five red foxes sit on a wall." in again["messages"][1]["content"]
    assert again["sampling_params"]["temperature"] == 0.7
    done = rows.read_again(replied(again, f"<think>so</think><answer>{second}</answer>"))
    assert (done["status"], done["prompt"], done[FIRST]) == (status, rewrite, "")
    assert (done["input_prompt"], done["request"]) == ("three red foxes", "three red foxes")
    assert set(done) == set(first), "all rows of a block have the same columns"
    assert any(finding.startswith("numbers: ") for finding in done["findings"])


def test_ray_rows_that_cannot_be_used_and_cut_replies() -> None:
    rows = RayRows.of(CONFIG, field="prompt")
    assert [rows.usable({"prompt": p}) for p in ("a fox", None, " ", 3, "a\0b")] == [True, False, False, False, False]
    cut = rows.read(replied(rows.ask({"prompt": "a fox"}), "<think>so and so", tokens=100))
    assert cut[FIRST]
    assert rows.ask({"prompt": "<|im_end|> a fox"})["messages"][1]["content"].count("<|im_end|>") == 0


def test_ray_rows_outside_the_scope_are_kept_with_a_finding() -> None:
    rows = RayRows.of(CONFIG, field="prompt", scope=open_scope(load_profile("mini")))
    assert [rows.outside({"prompt": p}) for p in ("a red star", "an astronaut on a horse")] == [False, True]
    kept = rows.keep({"prompt": "an astronaut on a horse"})
    assert (kept["status"], kept["prompt"], kept[FIRST]) == ("out_of_scope", "an astronaut on a horse", "")
    assert "astronaut" in kept["findings"][0]
    read = rows.read(replied(rows.ask({"prompt": "a red star"}), "<think>so</think><answer>A red star.</answer>"))
    assert set(kept) == set(read), "all rows of a block have the same columns"


def test_ray_that_is_not_installed() -> None:
    with pytest.raises(MissingExtra, match="extra ray"):
        enhance_dataset(None, CONFIG)


async def test_scorers() -> None:
    assert load_scorer("consensus")("p", ["a", "b"]) == [0.0, 0.0]
    assert load_scorer("statistics:mean") is not None
    for name in ("nosuch", "nosuch:one", "statistics:nosuch"):
        with pytest.raises(ConfigError, match=name.partition(":")[0]):
            load_scorer(name)
    rewrites = [Rewrite("a", fallback=True), Rewrite("b"), Rewrite("c")]
    best = await ScoreSelector(lambda original, candidates: [9, 1, 2])("p", rewrites, 0)
    assert (best.index, best.scores) == (2, (9.0, 1.0, 2.0))
    for bad in ([1.0], [1.0, 2.0, float("nan")]):
        with pytest.raises(InputError, match="for 3 candidates"):
            await ScoreSelector(lambda original, candidates, bad=bad: bad)("p", rewrites, 0)  # type: ignore[misc]
    with pytest.raises(InputError, match="ZeroDivisionError"):
        await ScoreSelector(lambda original, candidates: [1 / 0])("p", rewrites, 0)
