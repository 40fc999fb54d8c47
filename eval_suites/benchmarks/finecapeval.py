"""FineCapEval (Cho et al. 2022): 1,000 pictures, each with five captions, and phrases for background, objects and relations.

File: `FineCapEval.csv` with image, caption, background, object, relation; phrases are separated by `\\;`. --pictures names the
folder of the pictures. The profile's judge describes each, and the words of the phrases are looked for in what it says.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from eval_suites.report import Section, Table, percent
from eval_suites.runner import Evaluation, hash_data, note_count, spread_evenly
from eval_suites.sources import Row, find, published_notes, read_table, want
from eval_suites.stats import interval
from redraft.chat import ChatModel, ChatRequest, Message, open_chat
from redraft.errors import BackendError, InputError, one_line
from redraft.images import open_image
from redraft.journal import Journal
from redraft.profiles import load_profile
from redraft.templates import load_template

SOURCE = "https://github.com/j-min/CLIP-Caption-Reward (FineCapEval.csv and its pictures)"
KINDS = ("background", "object", "relation")
_WORD = re.compile(r"[a-z0-9]+")
_SEPARATOR = "\\;"
_AT_ONCE = 8


@dataclass(frozen=True)
class CaptionItem:
    """A picture, and the phrases of each kind that people wrote of it."""

    picture: str
    phrases: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class CaptionData:
    """What was loaded."""

    items: tuple[CaptionItem, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def load(place: Path) -> CaptionData:
    """Reads the file. Rows of which a field is empty are left out, as the official script does."""
    file = find(place, ("FineCapEval.csv", "data/FineCapEval.csv"), SOURCE)

    def read(row: Row) -> tuple[str, dict[str, list[str]]] | None:
        cells = {kind: str(row.get(kind) or "").strip() for kind in KINDS}
        name = want(row, "image", str)
        if Path(name).name != name:
            raise InputError(f"field 'image' is {name!r}, not the name of a file")
        if not all(cells.values()) or not str(row.get("caption") or "").strip():
            return None
        phrases = {kind: [p.strip() for p in cell.split(_SEPARATOR)] for kind, cell in cells.items()}
        return name, {kind: [phrase for phrase in each if len(phrase) > 1] for kind, each in phrases.items()}

    rows = read_table(file, read)
    gathered: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if row is not None:
            known = gathered.setdefault(row[0], {kind: [] for kind in KINDS})
            for kind in KINDS:
                known[kind] += row[1][kind]
    items = tuple(CaptionItem(n, {k: tuple(each) for k, each in kinds.items()}) for n, kinds in gathered.items())
    if not items:
        raise InputError(f"{file} holds no row with all of caption, {', '.join(KINDS)}")
    return CaptionData(items, (file,), published_notes(file, len(rows), 5000, unit="captions"))


def words_of(text: str) -> frozenset[str]:
    """The lemmas of a text (simplemma; the official script has Porter stems).

    >>> sorted(words_of("Two dogs running"))
    ['dog', 'run', 'two']
    """
    import simplemma

    return frozenset(simplemma.lemmatize(word, lang="en") for word in _WORD.findall(text.lower()))


def recall(caption: str, phrases: Sequence[str]) -> float | None:
    """The mean over phrases of the share of their words that the caption has; None without phrases."""
    said = words_of(caption)
    shares = [len(wanted & said) / len(wanted) for wanted in map(words_of, phrases) if wanted]
    return fmean(shares) if shares else None


async def describe(
    items: Sequence[CaptionItem], pictures: Path, chat: ChatModel, journal: Journal, done: Callable[[], None]
) -> list[str | None]:
    """A caption of each picture, None if the model FAILED; a later run asks for those again."""
    gate = asyncio.Semaphore(_AT_ONCE)
    template = load_template("evaluator", "describe", "describe")
    asked: set[str] = set()

    async def caption(item: CaptionItem) -> str | None:
        async def ask() -> dict[str, str]:
            asked.add(item.picture)
            async with gate:
                image = await asyncio.to_thread(open_image, pictures / item.picture)
                try:
                    reply = await chat(ChatRequest((Message("user", (image, template)),), max_tokens=512))
                except BackendError as error:
                    return {"failure": one_line(error)}
            return {"caption": reply.text}

        known = journal.get(("caption", item.picture))
        again = known is not None and "failure" in known and item.picture not in asked
        value: dict[str, str] = await journal.aonce(("caption", item.picture), ask, again=again)
        done()
        return value.get("caption")

    return list(await asyncio.gather(*(caption(item) for item in items)))


@dataclass(frozen=True)
class CaptionSuite:
    """A benchmark of what a model says of pictures."""

    name: str
    title: str
    source: str
    licence: str
    official: str
    measure: str
    variants: tuple[str, ...] = ("",)
    needs_data: bool = True
    takes: tuple[str, ...] = ("pictures",)

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        """Describes the pictures and measures the recall. Raises as `AnySuite.run` does."""
        options = evaluation.options
        if options.pictures is None:
            raise InputError(f"{self.name} needs the benchmark's pictures; give their folder as --pictures")
        assert options.data is not None, "checked by check_options"
        folder, data = options.pictures, load(options.data)
        items = spread_evenly(data.items, options.limit)
        gone = [item.picture for item in items if not (folder / item.picture).is_file()]
        if gone:
            raise InputError(
                f"{len(gone):,} of {len(items):,} pictures are missing in {folder}, the first being {gone[0]}"
            )
        profile = load_profile(options.profile)
        model = profile.need_judge().model
        settings = {"data": hash_data(data), "pictures": str(folder), "judge": model.model_dump(mode="json")}
        with evaluation.open(**settings) as journal:
            chat = open_chat(model)

            async def measure(advance: Callable[[str], None]) -> dict[str, Any]:
                captions = await describe(items, folder, chat, journal, lambda: advance("describing"))
                return recall_figures(items, captions)

            figures = evaluation.wait_for({"describing": ("describing", len(items))}, measure)
            failure = f"none of {len(items)} pictures was described" if figures["failed"] == len(items) else None
            notes = [*data.notes, *note_count(len(items), len(data.items))]
            return evaluation.report({"judge": model.model, **figures}, recall_sections, notes=notes, failure=failure)


def recall_figures(items: Sequence[CaptionItem], captions: Sequence[str | None]) -> dict[str, Any]:
    """Mean recall of each kind of phrases, of the pictures that were described."""
    figures: dict[str, Any] = {"pictures": len(items), "failed": sum(caption is None for caption in captions)}
    for kind in KINDS:
        values = [
            value
            for item, caption in zip(items, captions, strict=True)
            if caption is not None and (value := recall(caption, item.phrases[kind])) is not None
        ]
        figures[kind] = interval(values)
    return figures


def recall_sections(figures: Mapping[str, Any]) -> list[Section]:
    """One table."""
    row = [f"{figures['pictures']}", f"{figures['failed']}", *(percent(figures[kind]) for kind in KINDS)]
    text = "Percent of the phrases' words that the description has; 95% intervals, pictures resampled."
    return [Section("Recall", text, Table(["pictures", "failed", *KINDS], [row]))]


SUITE = CaptionSuite(
    name="finecapeval",
    title="FineCapEval",
    source=SOURCE,
    licence="none seen",
    official="COCO caption metrics, and for background, object and relation the share of stemmed words in the caption.",
    measure="What this profile's judge says of each picture: the share of the phrases' words, as lemmas, that it has. The "
    "official script compares Porter stems with the text as a string, so this is not its figure; no COCO metric.",
)
