"""How much better the mini generator draws relations that both of their groups tell: a figure of docs/training.md.

    redraft eval cutouts-captions --limit 200

True captions of held-out prompts, each told by both sides and by one (`mini.world.captions.caption_unaware`), two pictures
each with the same seeds; the share of pictures with every check right, by the oracle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from statistics import fmean
from typing import Any

import numpy as np

from editors.backend import ImageBackend, ImageTask, open_backend, render
from eval_suites.benchmarks.cutouts import asked, prompts
from eval_suites.pictures import seed_of
from eval_suites.report import Section, Table
from eval_suites.runner import Evaluation, note_count
from eval_suites.stats import interval, paired_difference
from eval_suites.tables import TableSuite, interval_text
from mini.world import oracle
from mini.world.captions import caption, caption_unaware
from mini.world.wording import Wording
from redraft.profiles import load_profile

PROMPTS = 200
PICTURES = 2


def work(evaluation: Evaluation) -> dict[str, Any]:
    options = evaluation.options
    wordings = prompts(options.limit or PROMPTS, options.seed)
    profile = load_profile(options.profile)
    rng = np.random.default_rng(options.seed)

    def share_right(backend: ImageBackend, caption_of: Callable[[Wording], str]) -> list[float]:
        captions = [caption_of(wording) for wording in wordings]
        tasks = [
            ImageTask(text, seed_of(options.seed, wording.text, k))
            for text, wording in zip(captions, wordings, strict=True)
            for k in range(PICTURES)
        ]
        images = render(backend, tasks)
        right = [float(all(oracle.answers(image, asked(wordings[i // PICTURES])))) for i, image in enumerate(images)]
        return [fmean(right[i : i + PICTURES]) for i in range(0, len(right), PICTURES)]

    async def measure(advance: Callable[[str], None]) -> dict[str, list[float]]:
        backend = open_backend(profile.need_generator())
        shares = {}
        for name, caption_of in (
            ("both", lambda wording: caption(wording.spec)),
            ("one", lambda wording: caption_unaware(rng, wording.spec, 1.0)),
        ):
            shares[name] = await asyncio.to_thread(share_right, backend, caption_of)
            advance("drawing")
        return shares

    with evaluation.open(profile=profile.model_dump(mode="json"), seed=options.seed, prompts=len(wordings)):
        shares = evaluation.wait_for({"drawing": ("drawing", 2)}, measure)
        figures = {name: interval(values) for name, values in shares.items()}
        figures["one - both"] = asdict(paired_difference(shares["one"], shares["both"]))
        return evaluation.report(
            {"prompts": len(wordings), "captions": figures},
            sections,
            notes=note_count(len(wordings), len(wordings), "prompts"),
        )


def sections(figures: Mapping[str, Any]) -> list[Section]:
    rows = [[name, interval_text(figure)] for name, figure in figures["captions"].items()]
    text = f"{figures['prompts']} held-out prompts, {PICTURES} pictures each."
    return [Section("Relations told by both sides and by one", text, Table(["told by", "every check right"], rows))]


SUITE = TableSuite(
    name="cutouts-captions",
    title="Captions of cut-outs",
    measure="How much better the mini generator draws relations that both of their groups tell, by an oracle that reads "
    "the pixels; not a published benchmark.",
    work=work,
    takes=("seed",),
)
