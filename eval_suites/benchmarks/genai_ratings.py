"""GenAI-Bench's human ratings (Li et al. 2024): six models' pictures, each rated 1 to 5 by three people.

Files: `genai_image.json` {index: {"prompt", "models": {model: [ratings]}}}, `genai_skills.json`, and the pictures as
`<model>/<index>.jpeg` (or .png) beside them.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from eval_suites.benchmarks.genai_bench import SOURCE, skills_of
from eval_suites.pairs import JudgeData, JudgeSuite, Rated
from eval_suites.sources import Row, find, published_notes, read_json_dict, want
from redraft.errors import InputError


def load(place: Path, _: str, unpacked: Path) -> JudgeData:
    file = find(place, ("genai_image.json", "*/genai_image.json"), SOURCE)
    skills = skills_of(file.parent / "genai_skills.json")

    def read(key: str, row: Row) -> list[Rated]:
        prompt, models = want(row, "prompt", str), want(row, "models", dict)
        made = []
        for model, ratings in models.items():
            if not isinstance(ratings, list) or not ratings or not all(isinstance(r, int | float) for r in ratings):
                raise InputError(f"the ratings of {model!r} are {ratings!r}, no list of numbers")
            tags = tuple(skills.get(key, ()))
            made.append(Rated(f"{key} {model}", prompt, _picture(file.parent, model, key), fmean(ratings), key, tags))
        return made

    rated = [picture for group in read_json_dict(file, read) for picture in group]
    prompts = len({picture.group for picture in rated})
    notes = published_notes(file, prompts, 527 if prompts == 527 else 1600)
    return JudgeData((file, file.parent / "genai_skills.json"), rated=tuple(rated), notes=notes)


def _picture(root: Path, model: str, key: str) -> Path:
    for end in (".jpeg", ".jpg", ".png"):
        if (root / model / f"{key}{end}").is_file():
            return root / model / f"{key}{end}"
    raise InputError(f"there is no picture {root / model / key}.jpeg; get the models' pictures from {SOURCE}")


SUITE = JudgeSuite(
    name="genai-bench-ratings",
    title="GenAI-Bench, human ratings",
    source=SOURCE,
    licence="Apache-2.0",
    official="Correlation of VQAScore with the mean rating, and pairwise accuracy with ties by a tuned threshold.",
    measure="Rank correlation of this judge's probability that a picture shows its prompt with people's mean rating. "
    "Published pairwise accuracies tune a threshold for ties; that is not done here.",
    load=load,
)
