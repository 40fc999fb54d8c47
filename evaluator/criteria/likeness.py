"""Likeness to references by an `embedder`: the same subject, the same person, the same style. No model is asked anything.

[[evaluator.criteria]]
use = "subject"
floor = 0.6
args = { embedder = "evaluator.criteria.embedders:TransformersEmbedder", model = "facebook/dinov2-base" }
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluator.types import Case, Need, Outcome, Reading, Reference, Role, Shot
from redraft.errors import ConfigError, InputError
from redraft.images import open_image
from redraft.profiles import PartConfig, load_part

if TYPE_CHECKING:
    from evaluator.criteria import Parts

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Embedding:
    """A picture as features: `whole` (width,), and `patches` (rows, columns, width) if the embedder has such."""

    whole: Floats
    patches: Floats | None = None


class Embedder(Protocol):
    """Turns pictures into features, in order; None for a picture that has none (an embedder of faces: no face). Called in
    threads of its caller, one call at a time."""

    def __call__(self, images: Sequence[Image.Image]) -> Sequence[Embedding | None]: ...


class Likeness:
    """How like the references a picture is, the mean over those of its roles.

    by "patches": the mean over the reference's foreground patches of the best cosine to any patch of the picture (as
    PatchDPO compares patches): the subject may be anywhere. Features are taken relative to the mean of the reference's ground,
    and of three sizes of the reference the likest counts; both are ours, and measured (docs/rewards.md). by "whole": the cosine
    of the whole pictures. Cosines are mapped
    to [0, 1] by (c - low) / (1 - low), so that what unlike pictures have in common counts for nothing. It FAILED if the
    picture or all references have no embedding.
    """

    absolute = True

    def __init__(
        self,
        embedder: Embedder,
        name: str = "subject",
        *,
        by: str = "patches",
        roles: Sequence[Role] = ("subject",),
        low: float = 0.0,
        references: Sequence[Image.Image] = (),
        to_source: bool = False,
    ) -> None:
        """`references`: pictures to compare with beside those of the case; `to_source`: compare with the picture that is
        edited. Raises ConfigError."""
        if by not in ("patches", "whole"):
            raise ConfigError(f'{name}: by = "{by}" is unknown; take "patches" or "whole"')
        if not -1 <= low < 1:
            raise ConfigError(f"{name}: low = {low:g} must lie from -1 to below 1")
        needs: set[Need] = {"group"}
        if to_source:
            needs.add("source")
        elif not references:
            needs.add("references")
        self.name = name
        self.needs = frozenset(needs)
        self._embed = embedder
        self._by = by
        self._roles = tuple(roles)
        self._low = low
        self._own = tuple(Reference(image, self._roles[0]) for image in references)
        self._to_source = to_source
        self._lock = threading.Lock()

    async def __call__(self, case: Case, shots: Sequence[Shot]) -> list[Reading]:
        references = [*self._own, *(reference for reference in case.references if reference.role in self._roles)]
        if self._to_source and case.source is not None:
            references = [Reference(case.source, self._roles[0])]
        if not references:
            reason = f"there is no reference of role {' or '.join(self._roles)}"
            return [Reading(Outcome.NOT_APPLICABLE, reason=reason)] * len(shots)
        return await asyncio.to_thread(self._compare_alone, references, shots)

    def _compare_alone(self, references: Sequence[Reference], shots: Sequence[Shot]) -> list[Reading]:
        with self._lock:
            return self._compare(references, shots)

    def _compare(self, references: Sequence[Reference], shots: Sequence[Shot]) -> list[Reading]:
        views = [self._views(reference.image) for reference in references]
        images = [image for each in views for image in each] + [shot.image for shot in shots]
        embedded = list(self._embed(images))
        if len(embedded) != len(images):
            raise ValueError(f"the embedder gave {len(embedded)} embeddings for {len(images)} pictures")
        rest = iter(embedded)
        seen = [[(image, next(rest)) for image in each] for each in views]
        known = [[(image, made) for image, made in each if made is not None] for each in seen]
        return [self._read([each for each in known if each], made) for made in rest]

    def _views(self, image: Image.Image) -> list[Image.Image]:
        """The reference, and if parts of it are compared the same at smaller sizes."""
        return [image] if self._by == "whole" else [shrink(image, size) for size in _SIZES]

    def _read(self, references: Sequence[Sequence[View]], made: Embedding | None) -> Reading:
        if not references or made is None:
            which = "the picture" if references else "any reference"
            return Reading(Outcome.FAILED, reason=f"{self.name}: the embedder finds nothing in {which}")
        cosine = fmean(self._likeness(views, made) for views in references)
        return Reading(Outcome.SCORED, min(1.0, max(0.0, (cosine - self._low) / (1 - self._low))))

    def _likeness(self, views: Sequence[View], made: Embedding) -> float:
        first, embedding = views[0]
        if self._by == "whole" or embedding.patches is None or made.patches is None:
            return float(_unit(embedding.whole) @ _unit(made.whole))
        rows, columns, width = embedding.patches.shape
        ground = ~find_foreground(first, rows, columns)
        level = embedding.patches[ground].mean(axis=0) if ground.any() else np.zeros(width)
        offered = _unit(made.patches.reshape(-1, width) - level)
        best = -1.0
        for image, view in views if ground.any() else views[:1]:
            assert view.patches is not None
            wanted = _unit(view.patches[find_foreground(image, rows, columns)] - level)
            best = max(best, float((wanted @ offered.T).max(axis=1).mean()))
        return best


View = tuple[Image.Image, Embedding]
"""A reference at one of its sizes."""
_SIZES = (1.0, 0.65, 0.4)


def shrink(image: Image.Image, size: float) -> Image.Image:
    """The picture at a share of its size, in the middle of a sheet of its old size in the median colour of its edge."""
    if size == 1:
        return image
    picture = image.convert("RGB")
    small = picture.resize((max(1, round(size * picture.width)), max(1, round(size * picture.height))))
    red, green, blue = (round(float(value)) for value in np.median(_edge(np.asarray(picture)), axis=0))
    sheet = Image.new("RGB", picture.size, (red, green, blue))
    sheet.paste(small, ((picture.width - small.width) // 2, (picture.height - small.height) // 2))
    return sheet


def _edge(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


_NOTICEABLE = 24
"""Difference in 8-bit steps from which a pixel is none of the ground."""
_SHARE = 0.25
"""Share of such pixels that makes a patch one of the foreground."""


def find_foreground(image: Image.Image, rows: int, columns: int) -> NDArray[np.bool_]:
    """Which patches of a reference show its subject: those that differ from the median of its edge, (rows, columns). All of
    them if that would be none: a picture without an even ground is compared as a whole."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    far = (np.abs(pixels - np.median(_edge(pixels), axis=0)) >= _NOTICEABLE).any(axis=-1).astype(np.float64)
    shares = (
        np.asarray(Image.fromarray((far * 255).astype(np.uint8)).resize((columns, rows), Image.Resampling.BOX)) / 255
    )
    inside: NDArray[np.bool_] = shares >= _SHARE
    return inside if inside.any() else np.ones((rows, columns), dtype=bool)


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))


def open_subject(parts: Parts, *, embedder: str, by: str = "patches", **settings: Any) -> Likeness:
    """`embedder`: dotted path of an Embedder's class; `references`: files of pictures; `to_source`, `low`: as `Likeness` has
    them. The embedder is made of all other settings."""
    return _open("subject", "subject", embedder, settings, by=by)


def open_person(parts: Parts, *, embedder: str, **settings: Any) -> Likeness:
    """The same person: an embedder of faces, such as one over insightface, whose whole embedding is that of the face."""
    return _open("person", "person", embedder, settings, by="whole")


def open_style(parts: Parts, *, embedder: str, **settings: Any) -> Likeness:
    """The same style: by the whole pictures."""
    return _open("style", "style", embedder, settings, by="whole")


def _open(name: str, role: Role, embedder: str, settings: dict[str, Any], *, by: str) -> Likeness:
    rest = dict(settings)
    files, low, to_source = rest.pop("references", []), rest.pop("low", 0.0), rest.pop("to_source", False)
    try:
        images = [open_image(Path(file)) for file in files]
    except InputError as error:
        raise ConfigError(f"{name}: {error}") from None
    made = open_embedder(embedder, rest)
    return Likeness(made, name, by=by, roles=(role,), low=float(low), references=images, to_source=bool(to_source))


def open_embedder(path: str, settings: dict[str, Any]) -> Embedder:
    """The embedder at the dotted path, once for equal settings. Raises ConfigError."""
    try:
        return _embedder(path, tuple(sorted(settings.items())))
    except TypeError as error:
        raise ConfigError(f"the embedder {path!r} cannot be made of {settings}: {error}") from None


@lru_cache(maxsize=8)
def _embedder(path: str, settings: tuple[tuple[str, Any], ...]) -> Embedder:
    made: Embedder = load_part(PartConfig(use=path))(**dict(settings))
    return made
