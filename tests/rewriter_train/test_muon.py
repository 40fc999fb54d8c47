"""Muon and AdamW as one optimiser: who steps what, that rates reach both, and that a resumed run goes the same way."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from rewriter.train.muon import MuonWithAdamW

VOCABULARY = 11


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(VOCABULARY, 4), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, VOCABULARY, bias=False))


def _optimiser(model: nn.Module, lr: float = 0.01) -> MuonWithAdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return MuonWithAdamW(groups, lr=lr, vocabulary=VOCABULARY)


def _step(model: nn.Module, optimiser: MuonWithAdamW) -> None:
    optimiser.zero_grad()
    ids = torch.arange(VOCABULARY)
    nn.functional.cross_entropy(model(ids), ids.flip(0)).backward()
    optimiser.step()


def test_muon_steps_the_matrices_but_neither_embedding_nor_head() -> None:
    model = _model()
    groups = _optimiser(model).param_groups
    by_muon = [p for group in groups if "ns_steps" in group for p in group["params"]]
    assert [tuple(p.shape) for p in by_muon] == [(6, 4)]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    decay = {tuple(p.shape): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay == {(6, 4): 0.1, (VOCABULARY, 4): 0.1, (VOCABULARY, 6): 0.1, (6,): 0.0}


def test_a_scheduler_sets_the_rate_of_both() -> None:
    model = _model()
    optimiser = _optimiser(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 if step == 0 else 0.0)
    _step(model, optimiser)
    scheduler.step()
    before = [p.clone() for p in model.parameters()]
    _step(model, optimiser)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_going_on_from_a_saved_state_makes_the_same_weights() -> None:
    whole = _model()
    optimiser = _optimiser(whole)
    for _ in range(2):
        _step(whole, optimiser)
    half = _model()
    half.load_state_dict(whole.state_dict())
    resumed = _optimiser(half, lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for model, own in ((whole, optimiser), (half, resumed)):
        _step(model, own)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(_model().parameters(), half.parameters(), strict=True))
