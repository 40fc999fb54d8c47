"""RealBench (RealGen, Ye et al. 2025): prompts whose pictures should pass for photographs.

File: `prompt.txt` (eval/ or benchmark/), a prompt a line. Pictures are named by the number of the line.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import find, published_notes, read_lines
from eval_suites.suite import Data, Item, Question, Suite, share_right
from evaluator.types import Check

SOURCE = "https://github.com/yejy53/RealGen (eval/prompt.txt)"
_REAL = Question(Check("other", "Could this be a real photograph, with nothing in it that gives away a machine?"))


def load(place: Path, _: str) -> Data:
    file = find(place, ("prompt.txt", "eval/prompt.txt", "benchmark/prompt.txt"), SOURCE)
    prompts = read_lines(file)
    items = tuple(
        Item(f"{number}", prompt, (_REAL, Question(Check("other", f'Does the picture show "{prompt}"?'))))
        for number, prompt in enumerate(prompts, start=1)
    )
    return Data(items, (file,), published_notes(file, len(items), 1041))


SUITE = Suite(
    name="realbench",
    title="RealBench",
    source=SOURCE,
    licence="none seen",
    official="A VLM compares each picture with a real one (arena), and two detectors of generated pictures.",
    measure="Two yes/no questions a picture, whether it could be a photograph and whether it shows the prompt, by this "
    "profile's judge. This is not RealBench's score: no real picture is compared, and no detector is asked.",
    value_name="questions answered yes",
    load=load,
    place=lambda item, k: f"{item.id}_{k}.png" if k else f"{item.id}.png",
    value=share_right,
    images=1,
)
