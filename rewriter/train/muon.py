"""Muon for the matrices of layers, AdamW for the rest, as one optimiser that a Trainer steps, saves and resumes.

A model with random weights learns to look words up in the prompt in a third of the steps that AdamW alone takes. For
tuning a trained model there is no need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024), its steps scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate
    serves both.

    `groups`: parameter groups as a Trainer makes them, with their weight decay. `vocabulary`: rows of the embedding and
    of the head, which Muon does not suit; all other matrices are its.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        vocabulary: int,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
    ) -> None:
        own_groups = [{**group, "params": list(group["params"])} for group in groups]

        def chosen(by_muon: bool) -> list[dict[str, Any]]:
            return [
                {"params": own, "weight_decay": group.get("weight_decay", 0.0)}
                for group in own_groups
                if (own := [p for p in group["params"] if (p.ndim == 2 and vocabulary not in p.shape) is by_muon])
            ]

        self._parts: list[torch.optim.Optimizer] = []
        if matrices := chosen(True):
            self._parts.append(torch.optim.Muon(matrices, lr=lr, adjust_lr_fn="match_rms_adamw"))
        if others := chosen(False):
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=betas, eps=eps))
        super().__init__(own_groups, {"lr": lr})
        self._share_groups()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()

    def _share_groups(self) -> None:
        # The very dicts of the parts: a scheduler that sets a rate here sets it there.
        self.param_groups = [group for part in self._parts for group in part.param_groups]
