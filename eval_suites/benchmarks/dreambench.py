"""DreamBench (DreamBooth, Ruiz et al. 2023): 30 subjects, 25 prompts each; the subject must be the one of the references.

Files: `dataset/prompts_and_classes.txt` (subject_name,class lines, then two lists of 25 prompts with {0} for the token and {1}
for the class) and `dataset/<subject>/*.jpg`, the references.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from eval_suites.likeness import find_embedders, measure_likeness
from eval_suites.report import Section, Table
from eval_suites.sources import find, published_notes, read_text
from eval_suites.stats import interval
from eval_suites.suite import Answered, Data, Item, Question, Suite, every_right
from evaluator.types import Check
from redraft.errors import InputError
from redraft.images import open_image

SOURCE = "https://github.com/google/dreambooth (dataset/)"
_LIVE = frozenset({"cat", "dog"})
"""Classes that have the prompts for live subjects."""
_SUBJECT = re.compile(r"([a-z0-9_]{1,60}),([a-z ]{1,60})")
_PROMPT = re.compile(r"'(a [^'{}]{0,60}\{0\} \{1\}[^'{}]{0,120})'")


def load(place: Path, _: str) -> Data:
    file = find(place, ("dataset/prompts_and_classes.txt", "prompts_and_classes.txt"), SOURCE)
    text = read_text(file)
    head, _, rest = text.partition("Object Prompts")
    things, _, live = rest.partition("Live Subject Prompts")
    matches = [_SUBJECT.fullmatch(line.strip()) for line in head.splitlines()]
    subjects = [(m[1], m[2]) for m in matches if m is not None and m[1] != "subject_name"]
    prompts = {False: _PROMPT.findall(things), True: _PROMPT.findall(live)}
    if not subjects or not all(prompts.values()):
        raise InputError(f"{file} lists no subjects, or lacks one of the two lists of prompts; get it from {SOURCE}")
    items, files = [], [file]
    for name, kind in subjects:
        references = sorted(path for path in (file.parent / name).glob("*") if path.suffix.lower() in (".jpg", ".png"))
        if not references:
            raise InputError(f"{file.parent / name} holds no pictures of the subject {name!r}; get them from {SOURCE}")
        files += references
        for number, prompt in enumerate(prompts[kind in _LIVE]):
            request = " ".join(prompt.replace("{0}", "").replace("{1}", kind).split())
            questions = (
                Question(Check("subject", f"Is there a {kind} in the picture?")),
                Question(Check("other", f'Does the picture show "{request}"?'), needs=(0,)),
            )
            row = {"references": [str(path) for path in references]}
            items.append(Item(f"{name}-{number:02d}", request, questions, {"subject": (name,), "class": (kind,)}, row))
    return Data(tuple(items), tuple(files), published_notes(file, len(items), 750))


async def more(
    work: Any, items: Sequence[Item], results: Mapping[str, Mapping[str, Answered | str]]
) -> Mapping[str, Any]:
    """The likeness of each picture to its subject's references, the mean over these, if the profile names an embedder."""
    embedders = {} if work.profile is None else find_embedders(work.profile)
    if not embedders:
        return {"likeness": {}}
    figures: dict[str, dict[str, Any]] = {}
    for condition, answered in results.items():
        values: dict[str, list[float]] = {}
        for item in items:
            one = answered.get(item.id)
            if not isinstance(one, Answered):
                continue
            for picture in one.made.pictures:
                key = ("likeness", picture, item.tags["subject"][0])

                async def measure(picture: str = picture, item: Item = item) -> dict[str, float]:
                    def compare() -> dict[str, float]:
                        made = work.store.get(picture)
                        each = [measure_likeness(made, open_image(Path(p)), embedders) for p in item.row["references"]]
                        return {n: fmean(e[n] for e in each if n in e) for n in each[0] if n.startswith("cosine")}

                    return await asyncio.to_thread(compare)

                for name, value in (await work.journal.aonce(key, measure)).items():
                    values.setdefault(name, []).append(value)
        figures[condition] = {name: interval(column) for name, column in values.items()}
    names = sorted({name for row in figures.values() for name in row})
    table = Table(["", *names], [[c, *(f"{row[n]['mean']:.3f}" for n in names)] for c, row in figures.items()])
    return {"likeness": figures, "sections": [Section("Likeness to the subject", "Mean over the references.", table)]}


SUITE = Suite(
    name="dreambench",
    title="DreamBench",
    source=SOURCE,
    licence="none seen for the code; the pictures' licences are in references_and_licenses.txt",
    official="DINO and CLIP-I, cosines to the references, and CLIP-T to the prompt.",
    measure="Two yes/no questions a picture, by this profile's judge, and the cosine to the subject's references by the "
    "embedders that the profile names, if any. This is not CLIP-I, DINO or CLIP-T unless it names their models.",
    value_name="pictures that show the class as prompted",
    load=load,
    place=lambda item, k: f"{item.id}_{k}.png",
    value=every_right,
    images=4,
    more=more,
)
