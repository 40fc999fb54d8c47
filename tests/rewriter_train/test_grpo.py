"""The GRPO script: steps on tiny random models, a real kill and going on after it, options, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

import agent.models
import evaluator.reward
from mini.rewriter.model import build_model, save, train_tokenizer
from redraft.profiles import builtin_profiles
from rewriter import cot, reply, styles
from rewriter.train import data, grpo, image_reward
from rewriter.train.image_reward import RewardSample, ScoredSample, Scores, Wish
from rewriter.train.reward_server import RewardServer, ServerArguments
from tests.rewriter_train.fake_reward import FakeReward

PROMPTS = [f"{number} {shape}" for number in ("two", "three", "four") for shape in ("stars", "moons")]


class ByHash(FakeReward):
    """Rewards that depend on the reply alone, readable or not: a tiny random model never writes a readable one.

    `before` is called with the number of each call before it is answered.
    """

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        super().__init__()
        self._before = before

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        self.calls.append(tuple(samples))
        self._before(len(self.calls))
        values = [sha256(one.reply.encode()).digest()[0] / 255 for one in samples]
        scored = tuple(ScoredSample(value, value, 0.0, "a star", pictures=1) for value in values)
        return Scores(scored, len(samples), 0, 0, (), 0.0, 0.0, 0.0)


class Served:
    """A reward server for the test: `url`, and `source`, which may be exchanged between trainings."""

    def __init__(self, source: FakeReward) -> None:
        self._server = RewardServer(self, ServerArguments(port=0))
        self.source = source
        self.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        return await self.source(samples)

    async def draw(self, wishes: Sequence[Wish]) -> Any:
        return await self.source.draw(wishes)

    def close(self) -> None:
        pass

    def stop(self) -> None:
        self._server.stop()
        self._thread.join()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(ByHash())
    yield served
    served.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny_rewriter")
    tokenizer = train_tokenizer([*PROMPTS, "<think>two of them</think><answer>two red stars</answer>"], size=300)
    save(build_model(tokenizer, width=32, layers=1), tokenizer, folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, model: Path, served: Served) -> Path:
    served.source = ByHash()
    records = tmp_path / "prompts.jsonl"
    records.write_text("".join(json.dumps({"request": one}) + "\n" for one in PROMPTS), encoding="utf-8")
    return _write(
        tmp_path / "grpo.yaml",
        {
            "model_name_or_path": str(model),
            "train_files": [str(records)],
            "style": "package:mini/rewriter/style",
            "reward_url": served.url,
            "output_dir": str(tmp_path / "out"),
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "num_generations": 2,
            "max_completion_length": 8,
            "learning_rate": 1e-2,
            "save_steps": 2,
            "logging_steps": 1,
            "sample_every": 2,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "bf16": False,
            "report_to": "none",
            "disable_tqdm": True,
        },
    )


def _write(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _changed(config: Path, **settings: Any) -> Path:
    return _write(config, yaml.safe_load(config.read_text(encoding="utf-8")) | settings)


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def _log(folder: Path, step: int) -> dict[str, Any]:
    state = json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text(encoding="utf-8"))
    return {key: value for entry in state["log_history"] for key, value in entry.items()}


def test_two_steps_learn_log_and_leave_a_page(config: Path, model: Path, served: Served) -> None:
    out = config.parent / "out"
    assert grpo.main(["--config", str(config), "--beta", "0.1"]) == 0
    assert _weights(out) != _weights(model)
    calls = served.source.calls
    assert len(calls) == 2
    # Two prompts a step, two rewrites each, and the user's own words, not the template's.
    assert [[one.request for one in call][::2] == [one.request for one in call][1::2] for call in calls] == [True, True]
    assert all(one.request in PROMPTS for call in calls for one in call)
    log = _log(out, 2)
    assert {"reward/alignment", "reward/format", "reward/penalty", "reward/failed", "reward/wait_share"} <= log.keys()
    assert {"kl", "completions/mean_length", "rewards/rewrite/mean"} <= log.keys()
    # Eight tokens of noise have no end: the server was told so.
    assert any(one.truncated for call in calls for one in call)
    assert log["reward/cut_off"] == pytest.approx(log["completions/clipped_ratio"])
    assert "Samples at step 2 of 2" in (out / "samples" / "step-2.html").read_text(encoding="utf-8")


def test_a_kill_loses_no_more_than_a_save_interval(
    config: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in step 4 of 6, with a save every 2: going on makes the steps from 3 on, and the same weights."""
    whole = _changed(config, max_steps=6, output_dir=str(config.parent / "whole"))
    assert grpo.main(["--config", str(whole)]) == 0
    expected, unbroken = _weights(config.parent / "whole"), served.source.calls

    _changed(config, output_dir=str(config.parent / "out"))
    started: list[subprocess.Popen[bytes]] = []

    def kill_in_step_4(number: int) -> None:
        if number == 4:
            started[0].kill()

    served.source = broken = ByHash(kill_in_step_4)
    command = [sys.executable, "-m", "rewriter.train.grpo", "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as process:
        started.append(process)
        assert process.wait(250) == -9
    assert len(broken.calls) == 4
    capsys.readouterr()

    served.source = again = ByHash()
    assert grpo.main(["--config", str(config)]) == 0
    assert "checkpoint-2" in capsys.readouterr().err
    assert again.calls == unbroken[2:]
    assert _weights(config.parent / "out") == expected


def test_a_tasks_deviation_is_kept_in_checkpoints(config: Path, served: Served) -> None:
    _changed(config, task_ema=True, scale_rewards="none", save_steps=1, max_steps=1)
    out = config.parent / "out"
    assert grpo.main(["--config", str(config)]) == 0
    state = json.loads((out / "checkpoint-1" / "trainer_state.json").read_text(encoding="utf-8"))
    [moments] = state["stateful_callbacks"]["ShaperState"]["attributes"]["moments"].values()
    rewards = [sha256(one.reply.encode()).digest()[0] / 255 for one in served.source.calls[0]]
    assert moments[0] == pytest.approx(sum(rewards) / 4)
    assert grpo.main(["--config", str(config), "--max-steps", "2"]) == 0
    state = json.loads((out / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    [later] = state["stateful_callbacks"]["ShaperState"]["attributes"]["moments"].values()
    rewards = [sha256(one.reply.encode()).digest()[0] / 255 for one in served.source.calls[1]]
    assert later[0] == pytest.approx(0.99 * moments[0] + 0.01 * sum(rewards) / 4)


def test_too_many_failed_judgements_stop_with_exit_code_3(
    config: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(FakeReward):
        async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
            scored = tuple(ScoredSample(None, None, 0.0, one.reply, pictures=1, failed=1) for one in samples)
            return Scores(scored, 4, 4, 0, ("the judge has no label mass",), 0.0, 0.0, 0.0)

    served.source = Failing()
    assert grpo.main(["--config", str(config)]) == 3
    said = capsys.readouterr().err
    assert "judgements of this step failed, more than the share of 0.2 that max_failed allows" in said
    assert "the judge has no label mass" in said


def test_an_adapter_is_saved_and_merged(config: Path) -> None:
    from transformers import AutoModelForCausalLM

    pytest.importorskip("peft")
    assert grpo.main(["--config", str(config), "--use_peft", "true", "--lora_r", "2", "--max-steps", "1"]) == 0
    out = config.parent / "out"
    assert (out / "adapter_model.safetensors").is_file()
    merged = AutoModelForCausalLM.from_pretrained(out / "merged")
    assert merged.config.hidden_size == 32
    assert (out / "merged" / "tokenizer.json").is_file()


@pytest.mark.integration
def test_a_step_with_the_mini_models(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn by the mini generator and judged by the mini judge; what they make of it is no matter here."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    del settings["reward_url"]
    settings |= {
        "profile": "mini",
        "model_name_or_path": "package:mini/weights/rewriter",
        "max_completion_length": 160,
        "temperature": 0.7,
        "reward_cache": str(config.parent / "rewards.jsonl"),
        "save_steps": 1,
        "sample_every": 1,
        "sample_count": 1,
    }
    _write(config, settings)
    assert grpo.main(["--config", str(config), "--max-steps", "1"]) == 0, capsys.readouterr().err
    out = config.parent / "out"
    log = _log(out, 1)
    assert 0 <= log["reward/alignment"] <= 1
    assert log["reward/failed"] <= 0.2
    assert (config.parent / "rewards.jsonl").is_file()
    assert "data:image/webp" in (out / "samples" / "step-1.html").read_text(encoding="utf-8")


TASTE = '''
from evaluator import Outcome, Reading

class Spread:
    """How far a picture's brightness is from the mean of its group: it needs the whole group of a request."""

    name = "spread"
    absolute = True
    needs = frozenset({"group"})
    sizes = []

    async def __call__(self, case, shots):
        self.sizes.append(len(shots))
        light = [shot.image.convert("L").resize((1, 1)).getpixel((0, 0)) / 255 for shot in shots]
        mean = sum(light) / len(light)
        return [Reading(Outcome.SCORED, min(1.0, abs(one - mean) * 4)) for one in light]

class Light:
    name = "light"
    absolute = True
    needs = frozenset()

    async def __call__(self, case, shots):
        return [Reading(Outcome.SCORED, shot.image.convert("L").resize((1, 1)).getpixel((0, 0)) / 255) for shot in shots]
'''


@pytest.mark.integration
def test_two_steps_with_three_criteria_one_of_which_sees_the_group(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mini models again, with two criteria of a stranger's beside the checks, and shaping over all three."""
    (config.parent / "taste_for_grpo.py").write_text(TASTE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(config.parent))
    mini = builtin_profiles()["mini"].read_text(encoding="utf-8")
    assert "[evaluator]\n" in mini
    criteria = (
        '[[evaluator.criteria]]\nuse = "taste_for_grpo:Light"\nweight = 0.5\n'
        '[[evaluator.criteria]]\nuse = "taste_for_grpo:Spread"\nweight = 0.25\n'
    )
    mine = mini.replace("[evaluator]\n", '[evaluator]\ncombine = "weighted_sum"\n') + criteria
    (config.parent / "mine.toml").write_text(mine, encoding="utf-8")
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    del settings["reward_url"]
    settings |= {
        "profile": str(config.parent / "mine.toml"),
        "model_name_or_path": "package:mini/weights/rewriter",
        "max_completion_length": 160,
        "temperature": 0.7,
        "combine": "log_tamed",
        "part_weights": [1.0, 0.1, 0.2],
        "images_per_rewrite": 2,
        "save_steps": 1,
    }
    _write(config, settings)
    assert grpo.main(["--config", str(config)]) == 0, capsys.readouterr().err
    for step in (1, 2):
        log = _log(config.parent / "out", step)
        assert all(0 <= log[f"reward/criterion_{name}"] <= 1 for name in ("checks", "light", "spread"))
    import taste_for_grpo  # type: ignore[import-not-found]

    assert max(taste_for_grpo.Spread.sizes) > 1


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        ({"rewrad_url": "x"}, 2, "rewrad_url: no such setting; did you mean reward_url?"),
        ({"train_files": []}, 2, "train_files is missing"),
        ({"reward_url": None}, 2, "profile is missing"),
        ({"profile": "mini"}, 2, "the reward server decides profile"),
        ({"reward_url": None, "profile": "no-such"}, 2, "unknown profile 'no-such'"),
        ({"reward_weights": [1.0]}, 2, "set combine and part_weights instead"),
        ({"task_ema": True}, 2, "set scale_rewards: none"),
        ({"combine": "product"}, 2, "combine is 'product', and may be sum, normalise_then_sum, log_tamed"),
        ({"aggregation": "median"}, 2, "aggregation is 'median'"),
        ({"num_generations": 3}, 2, "divisible"),
        ({"part_weights": [1.0]}, 2, "part_weights needs three numbers"),
        ({"model_name_or_path": "./no/such/model"}, 3, "no model folder"),
    ],
)
def test_what_is_refused(
    config: Path, settings: dict[str, object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _changed(config, **settings)
    try:
        found = grpo.main(["--config", str(config)])
    except SystemExit as stop:  # what argparse itself refuses
        found = int(stop.code or 0)
    assert found == code
    assert message in capsys.readouterr().err


def test_training_and_use_share_template_parser_guard_and_evaluator() -> None:
    """The same objects, not copies: what is trained is what is used."""
    assert image_reward.open_evaluator is evaluator.reward.open_evaluator
    assert evaluator.reward.open_reward is agent.models.open_reward
    assert image_reward.open_backend is agent.models.open_backend
    assert agent.models.CoTRewriter is cot.CoTRewriter
    assert data.load_style is cot.load_style is styles.load_style
    assert data.load_target is cot.load_target
    assert image_reward.review is cot.review is reply.review
    assert data.parse_reply is reply.parse_reply
