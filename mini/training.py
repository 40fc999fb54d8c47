"""What the mini training scripts share: a loop that shows progress, saves, resumes, and keeps an average of weights."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

console = Console(stderr=True)


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """Matrices of numbered layers ("blocks.0.up.weight"): neither embeddings nor heads, which Muon does not suit."""
    named = module.named_parameters()
    return [p for name, p in named if p.ndim == 2 and name.endswith("weight") and re.search(r"\.\d+\.", f".{name}")]


@dataclass
class Trainer:
    """Runs `step(i) -> {name: loss}` (the entry "loss" is minimised) for `steps` steps.

    With `muon`, the matrices of layers (see `hidden_matrices`) are stepped by Muon (Jordan et al. 2024), all else by
    AdamW. Muon's steps are scaled to the size of AdamW's (Liu et al. 2025): one learning rate serves both.

    The learning rate warms up over `warmup` steps and falls to a tenth by a cosine. `average` holds an exponential
    moving average of the weights. State is saved to `folder/state.pt` every `save_every` steps and on Ctrl-C; a
    second run of the same command goes on from there. One line of JSON a log step goes to `folder/log.jsonl`.
    """

    module: nn.Module
    step: Callable[[int], Mapping[str, Tensor]]
    steps: int
    folder: Path
    lr: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    muon: bool = False
    ema: float = 0.999
    save_every: int = 200
    log_every: int = 25
    evaluate: Callable[[], Mapping[str, float]] | None = None
    evaluate_every: int = 0
    stop_at: int | None = None
    """Run no farther than this step; learning rates are those of a run to `steps`, which a later one goes on with."""
    average: dict[str, Tensor] = field(default_factory=dict)

    def rate(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        hidden = hidden_matrices(self.module) if self.muon else []
        by_muon = {id(p) for p in hidden}
        others = [p for p in self.module.parameters() if id(p) not in by_muon]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.98))
        ]
        if hidden:
            decay, alike = self.weight_decay, "match_rms_adamw"
            optimisers.append(torch.optim.Muon(hidden, lr=self.lr, weight_decay=decay, adjust_lr_fn=alike))
        return optimisers

    def run(self) -> None:
        """Trains to the end, or raises KeyboardInterrupt after saving."""
        self.folder.mkdir(parents=True, exist_ok=True)
        optimisers = self._optimisers()
        self.average = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        start = self._resume(optimisers)
        sums: dict[str, float] = {}
        clock = time.monotonic()
        step, end = start, min(self.steps, self.stop_at or self.steps)
        try:
            for step in range(start, end):
                for optimiser in optimisers:
                    for group in optimiser.param_groups:
                        group["lr"] = self.rate(step)
                losses = self.step(step)
                self.module.zero_grad(set_to_none=True)
                losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch does not type it
                nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
                for optimiser in optimisers:
                    optimiser.step()
                self._average(step)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach())
                if (step + 1) % self.log_every == 0:
                    seconds = (time.monotonic() - clock) / self.log_every
                    self._log({"step": step + 1, **{k: v / self.log_every for k, v in sums.items()}, "s/step": seconds})
                    sums, clock = {}, time.monotonic()
                if self.evaluate is not None and self.evaluate_every and (step + 1) % self.evaluate_every == 0:
                    with torch.no_grad():
                        self._log({"step": step + 1, **self.evaluate()})
                    clock = time.monotonic()
                if (step + 1) % self.save_every == 0 or step + 1 == end:
                    self._save(optimisers, step + 1)
        except KeyboardInterrupt:
            self._save(optimisers, step)
            console.print(f"interrupted at step {step}; the same command goes on from here")
            raise

    def _average(self, step: int) -> None:
        decay = min(self.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - decay)

    def _log(self, row: Mapping[str, float]) -> None:
        shown = {k: round(v, 4) for k, v in row.items()}
        console.print(
            f"step {shown['step']}/{self.steps} " + " ".join(f"{k} {v}" for k, v in shown.items() if k != "step")
        )
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(shown) + "\n")

    def _save(self, optimisers: Sequence[torch.optim.Optimizer], step: int) -> None:
        partial = self.folder / "state.part"
        torch.save(
            {
                "step": step,
                "module": self.module.state_dict(),
                "average": self.average,
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                "rng": torch.get_rng_state(),
            },
            partial,
        )
        partial.replace(self.folder / "state.pt")

    def _resume(self, optimisers: Sequence[torch.optim.Optimizer]) -> int:
        path = self.folder / "state.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.average = state["average"]
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        console.print(f"going on from step {state['step']} of {path}")
        return int(state["step"])
