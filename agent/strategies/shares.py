"""Several strategies on one budget, one after the other."""

from __future__ import annotations

from dataclasses import replace

from agent.strategies.moves import Move, Stop, Strategy, View
from redraft.limits import Limits


def then(*parts: tuple[Strategy, float]) -> Strategy:
    """The parts in turn, each with its share of the budget: `then((draft, 0.6), (edit, 0.4))`.

    A part works until its share is spent or it has nothing more to do; what it leaves falls to those behind it. Images,
    steps and judgements are shared; rounds and seconds are the run's. Shares are positive; what matters is their ratio.
    """
    if not parts or any(share <= 0 for _, share in parts):
        raise ValueError("a shared budget needs parts, each with a share above 0")
    total = sum(share for _, share in parts)
    ends = [sum(share for _, share in parts[: n + 1]) / total for n in range(len(parts))]

    def strategy(view: View) -> Move:
        phase, began = min(view.phase, len(parts) - 1), view.began
        while True:
            # The last part has all that is left, whatever rounding took from the others.
            last = phase == len(parts) - 1
            limits = view.limits if last else share_of(view.limits, ends[phase])
            spent = not last and _is_spent(view, limits)
            if not spent:
                move = parts[phase][0](replace(view, limits=limits, phase=0, began=began))
                if last or not isinstance(move, Stop):
                    return replace(move, phase=phase, began=began)
            phase, began = phase + 1, view.round

    return strategy


def share_of(limits: Limits, share: float) -> Limits:
    """The limits with a share of the budget, each part of it at least 1."""
    counted = {name: getattr(limits, name) for name in ("max_images", "max_steps", "max_judgements")}
    return limits.model_copy(
        update={name: max(1, round(value * share)) if value else 0 for name, value in counted.items()}
    )


def _is_spent(view: View, limits: Limits) -> bool:
    spent = view.spent
    return (
        spent.images >= limits.max_images
        or (limits.max_steps > 0 and spent.steps >= limits.max_steps)
        or (limits.max_judgements > 0 and spent.judgements >= limits.max_judgements)
    )
