"""The training loop, and two steps of each training script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mini.generator import generated
from mini.generator import train as train_generator
from mini.judge import train as train_judge
from mini.rewriter import train as train_rewriter
from mini.training import Trainer
from mini.world.codec import ROW, TOKENS, from_rows
from mini.world.pools import load_pool, make_pool

STEPS = 20


class _Toy:
    """A tiny training that ends badly in step `stop_at`. Draws from torch's global stream, as real ones do."""

    def __init__(
        self,
        folder: Path,
        stop_at: int | None = None,
        stop_with: type[BaseException] = KeyboardInterrupt,
        seed: int = 0,
        save_every: int = 200,
    ) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.stop_at, self.stop_with = stop_at, stop_with
        self.seen: list[int] = []
        self.trainer = Trainer(
            self.module, self.step, STEPS, folder, 1e-2, warmup=4, ema=0.9, log_every=5, save_every=save_every
        )

    def step(self, i: int) -> Mapping[str, Tensor]:
        if i == self.stop_at:
            raise self.stop_with
        self.seen.append(i)
        x = torch.randn(16, 4)
        loss = ((self.module(x) - x.sum(1, keepdim=True)) ** 2).mean()
        return {"loss": loss, "half": loss / 2}


def _log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = _Toy(tmp_path / "whole")
    whole.trainer.run()
    first = _Toy(tmp_path / "parts", stop_at=7)
    with pytest.raises(KeyboardInterrupt):
        first.trainer.run()
    rest = _Toy(tmp_path / "parts", seed=99)  # other weights, another stream: both come from the saved state
    rest.trainer.run()
    assert first.seen == list(range(7))
    assert rest.seen == list(range(7, STEPS))
    for name, value in whole.module.state_dict().items():
        assert torch.equal(rest.module.state_dict()[name], value)
        assert torch.equal(rest.trainer.average[name], whole.trainer.average[name])


def test_a_training_stopped_early_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = _Toy(tmp_path / "whole")
    whole.trainer.run()
    first = _Toy(tmp_path / "parts")
    first.trainer.stop_at = 8
    first.trainer.run()
    assert first.seen == list(range(8))
    rest = _Toy(tmp_path / "parts", seed=99)
    rest.trainer.run()
    assert rest.seen == list(range(8, STEPS))
    for name, value in whole.trainer.average.items():
        assert torch.equal(rest.trainer.average[name], value)


def test_a_killed_training_goes_on_from_its_last_save(tmp_path: Path) -> None:
    whole = _Toy(tmp_path / "whole")
    whole.trainer.run()
    killed = _Toy(tmp_path / "parts", stop_at=11, stop_with=MemoryError, save_every=4)
    with pytest.raises(MemoryError):
        killed.trainer.run()
    (tmp_path / "parts" / "state.part").write_bytes(b"half a file")  # what a kill while saving leaves
    rest = _Toy(tmp_path / "parts", seed=99)
    rest.trainer.run()
    assert rest.seen[0] == 8
    for name, value in whole.module.state_dict().items():
        assert torch.equal(rest.module.state_dict()[name], value)


def test_a_finished_training_is_not_trained_on(tmp_path: Path) -> None:
    _Toy(tmp_path).trainer.run()
    again = _Toy(tmp_path, seed=99)
    again.trainer.run()
    assert again.seen == []
    assert len(_log(tmp_path)) == STEPS // 5


def test_the_log_has_a_line_for_each_log_step(tmp_path: Path) -> None:
    toy = _Toy(tmp_path)
    toy.trainer.run()
    rows = _log(tmp_path)
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    for row in rows:
        assert set(row) == {"step", "loss", "half", "s/step"}
        assert row["half"] == pytest.approx(row["loss"] / 2, abs=1e-3)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_evaluations_are_logged(tmp_path: Path) -> None:
    toy = _Toy(tmp_path)
    toy.trainer.evaluate, toy.trainer.evaluate_every = lambda: {"score": 0.5}, 10
    toy.trainer.run()
    assert [row["step"] for row in _log(tmp_path) if "score" in row] == [10, 20]


def test_the_rate_warms_up_and_falls_to_a_tenth(tmp_path: Path) -> None:
    trainer = _Toy(tmp_path).trainer
    rates = [trainer.rate(step) for step in range(STEPS + 1)]
    assert rates[0] == pytest.approx(1e-2 / 4)
    assert max(rates) == rates[3] == pytest.approx(1e-2)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(1e-3)


def test_the_average_lags_behind(tmp_path: Path) -> None:
    toy = _Toy(tmp_path)
    start = {name: value.clone() for name, value in toy.module.state_dict().items()}
    toy.trainer.run()
    for name, value in toy.module.state_dict().items():
        moved, lagged = (value - start[name]).norm(), (toy.trainer.average[name] - start[name]).norm()
        assert 0 < lagged < moved * 1.5
        assert not torch.equal(toy.trainer.average[name], value)


# Pools


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "deep" / "pool.npz"
    make_pool(200, 5, path)
    return path


def test_a_small_pool(pool: Path) -> None:
    rows, captions = load_pool(pool)
    assert rows.shape == (200, TOKENS, ROW)
    assert len(captions) == 200
    assert all(from_rows(row).cutouts for row in rows)
    assert [path.name for path in pool.parent.iterdir()] == ["pool.npz"]


def test_a_pool_is_the_beginning_of_a_larger_one_of_its_seed(pool: Path, tmp_path: Path) -> None:
    rows, captions = load_pool(tmp_path / "made_by_loading.npz", 300, 5)
    np.testing.assert_array_equal(rows[:200], load_pool(pool)[0])
    assert captions[:200] == load_pool(pool)[1]


def test_a_pool_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        make_pool(0, 0, tmp_path / "pool.npz")


# Two steps of each script


def test_two_steps_of_the_generator(pool: Path, tmp_path: Path) -> None:
    arguments = [
        "--pool", str(pool), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"),
        "--max-steps", "2", "--batch", "4", "--score-on", "2",
    ]  # fmt: skip
    train_generator.main(arguments)
    assert (tmp_path / "out" / "transformer" / "diffusion_pytorch_model.safetensors").is_file()
    assert (tmp_path / "work" / "state.pt").is_file()
    train_generator.main(arguments)  # finished: saves again, trains no further


def test_two_steps_of_the_judge(pool: Path, tmp_path: Path) -> None:
    rows, _ = load_pool(pool)
    np.savez(tmp_path / "generated.npz", rows=rows[:20])
    train_judge.main([
        "--pool", str(pool), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"),
        "--generated", str(tmp_path / "generated.npz"), "--look-steps", "2", "--max-steps", "2", "--batch", "2",
        "--measure-batches", "1",
    ])  # fmt: skip
    assert (tmp_path / "out" / "model.safetensors").is_file()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["seed"], record["steps"]) == (0, [2, 2])
    assert 0 <= record["accuracy"] <= 1
    assert 0.5 <= record["temperature"] <= 4
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"look", "ask"}


def test_two_steps_of_the_rewriter(tmp_path: Path) -> None:
    train_rewriter.main([
        "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--max-steps", "2", "--batch", "2",
        "--score-on", "1",
    ])  # fmt: skip
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_the_generator_s_own_scenes(pool: Path, tmp_path: Path) -> None:
    """Made of an untrained generator, they hold anything but a held-out pair."""
    train_generator.main([
        "--pool", str(pool), "--out", str(tmp_path / "generator"), "--work", str(tmp_path / "work"),
        "--max-steps", "1", "--batch", "2", "--score-on", "1",
    ])  # fmt: skip
    out = tmp_path / "deep" / "generated.npz"
    generated.main(["--generator", str(tmp_path / "generator"), "--pool", str(pool), "--out", str(out), "--count", "8"])
    with np.load(out) as data:
        rows = data["rows"]
    assert rows.shape[1:] == (TOKENS, ROW)
    cuts = [cut for row in rows for cut in from_rows(row).cutouts]
    assert cuts
