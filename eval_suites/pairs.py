"""Pairs and ratings by people, and the suites that judge judges by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from eval_suites.runner import Evaluation
from evaluator.types import Check
from redraft.errors import InputError

Label = Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Pair:
    """Two pictures for one prompt and which of them people prefer.

    `source`: the picture that both were edited from, where `prompt` is an instruction. `perspective`: what they were
    compared in. `group`: pairs of one group are right only together. `check`: what a pointwise judge is asked of each;
    None for whether it shows the prompt.
    """

    id: str
    prompt: str
    first: Path
    second: Path
    label: Label
    perspective: str = "all"
    source: Path | None = None
    group: str = ""
    check: Check | None = None


@dataclass(frozen=True)
class Rated:
    """A picture with what people gave it, on any scale: only the order of ratings counts. `group`: its prompt's id."""

    id: str
    prompt: str
    picture: Path
    rating: float
    group: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class JudgeData:
    """What was loaded: pairs, ratings, or both."""

    files: tuple[Path, ...]
    pairs: tuple[Pair, ...] = ()
    rated: tuple[Rated, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """What is written into the worse picture. `description` goes into tables; `fits`: whether it leaves the question's true
    answer alone."""

    name: str
    description: str
    paint: Callable[[Image.Image], Image.Image]
    fits: Callable[[Pair], bool] = lambda pair: True


@dataclass(frozen=True)
class JudgeSuite:
    """A benchmark of judges. `load` gets (place, variant, folder to unpack pictures into). `attacks`: attacks of its
    own, beside the order that is written into the worse picture of every suite."""

    name: str
    title: str
    source: str
    licence: str
    official: str
    measure: str
    load: Callable[[Path, str, Path], JudgeData]
    variants: tuple[str, ...] = ("",)
    needs_data: bool = True
    attacks: tuple[Attack, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        return ("judge", "second_profile", "passes", "tie", "attacks", "both_orders")

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        from eval_suites.judges import run_judging

        return run_judging(self, evaluation)


@dataclass(frozen=True)
class Preference:
    """A judge's preference in a pair.

    `p_first`: probability that the first is better, None if it FAILED, and `failure` then says why. `scores` of each
    picture, if the judge gives such.
    """

    p_first: float | None
    scores: tuple[float, float] | None = None
    failure: str = ""

    @property
    def margin(self) -> float | None:
        """How far the first is ahead: difference of scores, or of the two probabilities."""
        if self.p_first is None:
            return None
        return 2 * self.p_first - 1 if self.scores is None else self.scores[0] - self.scores[1]


class Comparer(Protocol):
    """A judge of pairs. `ordered`: the order of the pictures can matter to it. A failure is in the preference, never an
    exception. `run` tells passes apart that are to be asked anew."""

    @property
    def name(self) -> str: ...

    @property
    def ordered(self) -> bool: ...

    async def __call__(self, pair: Shown, run: int) -> Preference: ...


@dataclass(frozen=True)
class Shown:
    """A pair as a judge sees it: pictures in memory, perhaps altered."""

    prompt: str
    first: Image.Image
    second: Image.Image
    source: Image.Image | None = None
    check: Check | None = None
    perspective: str = "all"


def picture(cell: Any, name: str, unpacked: Path, root: Path) -> Path:
    """The file of a picture in a row: a path relative to `root`, or bytes as Parquet files hold them, which are written
    into `unpacked` under their hash. Raises InputError."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes) and cell:
        path = unpacked / hashlib.sha256(cell).hexdigest()
        if not path.is_file() or path.stat().st_size != len(cell):
            unpacked.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cell)
        return path
    if isinstance(cell, str) and cell:
        path = root / cell
        if path.is_file():
            return path
        raise InputError(f"field {name!r} names a picture that is not there: {path}")
    raise InputError(f"field {name!r} holds no picture: neither bytes nor a path")
