"""How much better the mini generator draws relations that both of their groups tell: a figure of docs/training.md.

    python -m eval_suites.cutout_captions --count 200

True captions of held-out prompts, each told by both sides and by one (`mini.world.captions.caption_unaware`), two pictures
each with the same seeds; the share of pictures with every check right, by the oracle.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from rich.console import Console

from editors.backend import ImageTask, open_backend, render
from eval_suites.generation.cutouts import asked, prompts
from eval_suites.painting import seed_of
from eval_suites.stats import bootstrap, paired_difference
from mini.world import oracle
from mini.world.captions import caption, caption_unaware
from mini.world.wording import Wording
from redraft.profiles import load_profile

PICTURES = 2


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` in place of the process's own arguments."""
    parser = argparse.ArgumentParser(description="Relations told by both sides against relations told by one.")
    parser.add_argument("--count", type=int, default=200, help="prompts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    wordings = prompts(options.count, options.seed)
    backend = open_backend(load_profile("mini").generator)
    rng = np.random.default_rng(options.seed)

    def right(told: Callable[[Wording], str]) -> list[float]:
        captions = [told(wording) for wording in wordings]
        tasks = [
            ImageTask(text, seed_of(options.seed, wording.text, k))
            for text, wording in zip(captions, wordings, strict=True)
            for k in range(PICTURES)
        ]
        images = render(backend, tasks)
        found = [float(all(oracle.answers(image, asked(wordings[i // PICTURES])))) for i, image in enumerate(images)]
        return [fmean(found[i : i + PICTURES]) for i in range(0, len(found), PICTURES)]

    both = right(lambda wording: caption(wording.spec))
    one = right(lambda wording: caption_unaware(rng, wording.spec, 1.0))
    console = Console()
    console.print(f"every check right, {options.count} held-out prompts, {PICTURES} pictures each", highlight=False)
    for name, figure in (
        ("both", bootstrap(both)),
        ("one", bootstrap(one)),
        ("one - both", paired_difference(one, both)),
    ):
        console.print(f"{name:10} {figure}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
