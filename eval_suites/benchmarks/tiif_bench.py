"""TIIF-Bench (Wei et al. 2025): following instructions, each prompt short and long.

Files: `<set>_prompts/*_prompts.jsonl`, a line {"type", "short_description", "long_description"}, and
`<set>_eval_prompts/*_eval_prompts.jsonl` of the same stem with {"type", "yn_question_list", "yn_answer_list"} in the
same order; <set> is test or testmini.
"""

from __future__ import annotations

from pathlib import Path

from eval_suites.sources import Row, find_all, published_notes, read_records, want, want_texts
from eval_suites.suite import Data, Item, Question, Suite, share_right
from evaluator.keypoints import find_keypoint
from evaluator.types import Check
from redraft.errors import InputError

SOURCE = "https://github.com/A113N-W3I/TIIF-Bench (data/testmini_prompts and data/testmini_eval_prompts)"
_PUBLISHED = {"test": 2538, "testmini": 277}
_MODEL = "redraft"


def load(place: Path, variant: str) -> Data:
    part, length = variant.split("_")
    prompts = find_all(place, (f"{part}_prompts/*_prompts.jsonl", f"data/{part}_prompts/*_prompts.jsonl"), SOURCE)
    items: list[Item] = []
    files: list[Path] = []
    for file in prompts:
        asked_file = file.parent.parent / f"{part}_eval_prompts" / file.name.replace("_prompts", "_eval_prompts")
        if not asked_file.is_file():
            raise InputError(
                f"there is no {asked_file}, which holds the questions to {file.name}; get it from {SOURCE}"
            )
        rows = read_records([file], lambda row: (want(row, "type", str), want(row, f"{length}_description", str)))
        question_rows = read_records([asked_file], _asked)
        if len(rows) != len(question_rows):
            raise InputError(
                f"{file} has {len(rows)} lines, {asked_file} has {len(question_rows)}; they go line by line"
            )
        for n, ((kind, prompt), (other, questions)) in enumerate(zip(rows, question_rows, strict=True)):
            if kind != other:
                raise InputError(f"line {n + 1}: {file.name} is of type {kind!r}, {asked_file.name} of type {other!r}")
            stem = file.stem.removesuffix("_prompts")
            row = {"dimension": kind, "length": length, "index": n}
            items.append(Item(f"{stem}/{n}", prompt, questions, {"dimension": (kind,)}, row))
        files += [file, asked_file]
    return Data(tuple(items), tuple(files), published_notes(prompts[0].parent, len(items), _PUBLISHED[part]))


def _asked(row: Row) -> tuple[str, tuple[Question, ...]]:
    kind = want(row, "type", str)
    texts, answers = want_texts(row, "yn_question_list"), want_texts(row, "yn_answer_list")
    if not texts or len(texts) != len(answers):
        raise InputError(f"{len(texts)} questions in yn_question_list, but {len(answers)} in yn_answer_list")
    if odd := [answer for answer in answers if answer.strip().lower() not in ("yes", "no")]:
        raise InputError(f"yn_answer_list holds {odd[0]!r}, not yes or no")
    point = find_keypoint(kind).id
    return kind, tuple(
        Question(Check(point, text), wanted=answer.strip().lower() == "yes", label=kind)
        for text, answer in zip(texts, answers, strict=True)
    )


SUITE = Suite(
    name="tiif-bench",
    title="TIIF-Bench",
    source=SOURCE,
    licence="none seen",
    official="GPT-4o, or Qwen2.5-VL-72B, answers yes/no questions; rendered text is read by PaddleOCR.",
    measure="TIIF-Bench's yes/no questions, answered by this profile's judge instead of GPT-4o; its OCR score of "
    "rendered text is not computed.",
    value_name="questions answered as they should be",
    load=load,
    place=lambda item, k: (
        f"{item.row['dimension']}/{_MODEL}/{item.row['length']}_description/{item.row['index']}"
        + (f"_{k}.png" if k else ".png")
    ),
    value=share_right,
    images=1,
    variants=("testmini_short", "testmini_long", "test_short", "test_long"),
)
