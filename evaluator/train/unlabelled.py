"""Tasks from pictures that nobody labelled: what was done to a picture is the truth of a question about it (SSL4RL).

    python -m evaluator.train.unlabelled PICTURES OUT [--task position] [--per-picture 2] [--size 448] [--seed 0]
    python -m evaluator.train.unlabelled RECORDS OUT --task mirror|worsen [--per-picture 2]
    python -m evaluator.train.unlabelled RECORDS OUT --task swap

rotation      is this picture turned, and by how much? Two pictures: as it is, and turned by 0, 90, 180 or 270 degrees
position      from which quarter of the first picture is the second cut?
jigsaw        the quarters of the picture were shuffled; in which order?
contrastive   are both pictures the same one, cropped and recoloured, or two different ones?
mirror        of yes/no records, such as a judge's own sure verdicts (`redraft export records`): the mirrored picture, with "left"
              and "right" exchanged in its question, has the same verdict
worsen        of the same: the picture as a poor photograph shows it has the same verdict
swap          of the same: each picture with the text of another, as OUT/metadata.jsonl, to be judged by `redraft export records`.
              A picture mostly shows its own text, so that a judge's sure verdicts on it mostly accept; on these, most reject

OUT gets tasks.jsonl, for `python -m evaluator.train.grpo`, records.jsonl, the same as yes/no records for
`python -m evaluator.train` (of tasks that show one picture), and the pictures. SSL4RL found that one task that fits the
domain beats mixtures, so one is made at a time. `mirror` and `worsen` write the records that they were given, too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from evaluator.keypoints import find_keypoint
from evaluator.train.records import Judgement, load_judgements
from redraft.errors import InputError
from redraft.files import open_atomically
from redraft.images import open_image
from redraft.training import console, run

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
QUARTERS = ("top left", "top right", "bottom left", "bottom right")
_TURNS = {
    "0": None,
    "90": Image.Transpose.ROTATE_270,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class MadeTask:
    """A choice about one or two pictures, and the same as yes/no questions, if one picture shows it."""

    pictures: tuple[Image.Image, ...]
    question: str
    options: tuple[str, ...]
    answer: str
    questions: tuple[tuple[str, bool], ...] = ()


TaskMaker = Callable[[Image.Image, Image.Image, np.random.Generator], MadeTask]
"""Makes a task of a picture; the second is another picture of the folder."""


def make_rotation(picture: Image.Image, other: Image.Image, rng: np.random.Generator) -> MadeTask:
    """By how many degrees clockwise the second picture is turned."""
    degrees = str(rng.choice(list(_TURNS)))
    turn = _TURNS[degrees]
    turned = picture if turn is None else picture.transpose(turn)
    question = "By how many degrees is the second picture turned clockwise, compared with the first?"
    return MadeTask((picture, turned), question, tuple(_TURNS), degrees)


def make_position(picture: Image.Image, other: Image.Image, rng: np.random.Generator) -> MadeTask:
    """From which quarter a crop is cut. A side of the crop is 40% to 80% of a quarter's."""
    at = int(rng.integers(4))
    width, height = picture.width // 2, picture.height // 2
    share = rng.uniform(0.4, 0.8)
    w, h = max(8, int(width * share)), max(8, int(height * share))
    left = (at % 2) * width + int(rng.integers(max(1, width - w)))
    top = (at // 2) * height + int(rng.integers(max(1, height - h)))
    crop = picture.crop((left, top, left + w, top + h))
    question = "From which quarter of the first picture is the second one cut out?"
    return MadeTask((picture, crop), question, QUARTERS, QUARTERS[at])


def make_jigsaw(picture: Image.Image, other: Image.Image, rng: np.random.Generator) -> MadeTask:
    """In which order the quarters of a picture lie: for each place, row by row, which quarter it shows."""
    order = [int(n) for n in rng.permutation(4)]
    width, height = picture.width // 2, picture.height // 2
    shuffled = Image.new("RGB", (2 * width, 2 * height))
    for place, quarter in enumerate(order):
        left, top = (quarter % 2) * width, (quarter // 2) * height
        tile = picture.crop((left, top, left + width, top + height))
        shuffled.paste(tile, ((place % 2) * width, (place // 2) * height))
    answer = _spell(order)
    options = {answer}
    while len(options) < 4:
        options.add(_spell([int(n) for n in rng.permutation(4)]))
    question = (
        "The picture was cut into quarters (1 top left, 2 top right, 3 bottom left, 4 bottom right), which were shuffled. "
        "Which quarters lie there now, from the top left row by row?"
    )
    whole = order == [0, 1, 2, 3]
    return MadeTask(
        (shuffled,),
        question,
        tuple(sorted(options)),
        answer,
        (("Do the quarters of the picture fit together?", whole),),
    )


def make_contrastive(picture: Image.Image, other: Image.Image, rng: np.random.Generator) -> MadeTask:
    """Whether two views show the same picture."""
    same = bool(rng.integers(2))
    views = tuple(_vary(view, rng) for view in (picture, picture if same else other))
    question = "Are both pictures parts of one and the same picture?"
    return MadeTask(views, question, ("yes", "no"), "yes" if same else "no")


MAKERS: dict[str, TaskMaker] = {
    "rotation": make_rotation,
    "position": make_position,
    "jigsaw": make_jigsaw,
    "contrastive": make_contrastive,
}


def _spell(order: Sequence[int]) -> str:
    return ", ".join(str(n + 1) for n in order)


def _vary(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A crop of 60% to 90% of each side, in other brightness and colour, mirrored or not."""
    share = rng.uniform(0.6, 0.9)
    w, h = int(picture.width * share), int(picture.height * share)
    left, top = int(rng.integers(picture.width - w + 1)), int(rng.integers(picture.height - h + 1))
    view = picture.crop((left, top, left + w, top + h))
    view = ImageEnhance.Brightness(view).enhance(float(rng.uniform(0.8, 1.2)))
    view = ImageEnhance.Color(view).enhance(float(rng.uniform(0.7, 1.3)))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.integers(2) else view


def write_tasks(
    pictures: Path, out: Path, *, task: str, per_picture: int = 1, size: int = 448, seed: int = 0
) -> tuple[int, int]:
    """Writes the tasks and records of a folder of pictures to `out`; gives their numbers.

    Pictures are scaled down to at most `size` pixels a side. Those that cannot be opened are left out and named. Raises
    InputError if fewer than two are left, or `out` cannot be written.
    """
    opened = list(_open_all(pictures, size))
    if len(opened) < 2:
        raise InputError(f"{pictures} holds {len(opened)} pictures that can be opened; give a folder with two or more")
    rng = np.random.default_rng(seed)
    counts = {"tasks": 0, "records": 0}
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        with open_atomically(out / "tasks.jsonl") as tasks, open_atomically(out / "records.jsonl") as records:
            for number, picture in enumerate(opened):
                for repeat in range(per_picture):
                    other = opened[(number + 1 + int(rng.integers(len(opened) - 1))) % len(opened)]
                    made = MAKERS[task](picture, other, rng)
                    names = [f"images/{number:06d}-{repeat}-{at}.png" for at in range(len(made.pictures))]
                    for name, image in zip(names, made.pictures, strict=True):
                        image.save(out / name)
                    row: dict[str, object] = {
                        "task": "choice",
                        "image": names[0],
                        "question": made.question,
                        "options": list(made.options),
                        "answer": made.answer,
                    }
                    row |= {"other": names[1]} if len(names) > 1 else {}
                    tasks.write(json.dumps(row).encode() + b"\n")
                    counts["tasks"] += 1
                    for question, truth in made.questions:
                        verdict = "accept" if truth else "reject"
                        record = {"image": names[0], "request": "", "key_point": "other", "question": question}
                        records.write(json.dumps(record | {"verdict": verdict}).encode() + b"\n")
                        counts["records"] += 1
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if not counts["records"]:
        (out / "records.jsonl").unlink()
    return counts["tasks"], counts["records"]


_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)
_WRITTEN = re.compile(r"[\"“”„'‘’«»]")
_OF_TEXT = ("text_rendering", "text_layout")
"""Key points that a mirrored picture cannot keep: writing would be mirrored too."""


def swap_sides(text: str) -> str:
    """`text` with left and right exchanged.

    >>> swap_sides("Is the star left of the moon, at the right edge?")
    'Is the star right of the moon, at the left edge?'
    """
    return _SIDES.sub(_other_side, text)


def _other_side(match: re.Match[str]) -> str:
    other = "right" if match[0].lower() == "left" else "left"
    return other.upper() if match[0].isupper() else other.capitalize() if match[0][0].isupper() else other


def is_mirrorable(record: Judgement) -> bool:
    """Whether the mirrored picture has the same verdict: not if the record is about writing, by its key point or by quotes."""
    return find_keypoint(record.check.key_point).id not in _OF_TEXT and not _WRITTEN.search(record.check.question)


_OF_LIGHT = re.compile(
    r"\b(dark|bright|dim|light|lit|shad\w*|blur\w*|sharp\w*|focus\w*|nois\w*|grain\w*|warm|cold|cool|tilt\w*|photo\w*)\b",
    re.IGNORECASE,
)


def worsen(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture as a poor photograph shows it: turned by up to 8 degrees, out of focus, darker, in light of another colour
    and noisy, each by a share of its own from none to all."""
    turn, blur, dim, tint, noise = rng.uniform(0, 1, 5)
    corner = picture.getpixel((2, 2))
    turned = picture.rotate(float(8 * turn * rng.choice([-1, 1])), Image.Resampling.BICUBIC, fillcolor=corner)
    blurred = turned.filter(ImageFilter.GaussianBlur(float(blur) * min(picture.size) / 100))
    light = (1 - 0.4 * dim) * rng.uniform(1 - 0.25 * tint, 1, 3)
    pixels = np.asarray(blurred, dtype=np.float64) * light + rng.normal(0, 10 * noise, (*picture.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Twin:
    """How to make another record of a yes/no record, with the same verdict."""

    picture: Callable[[Image.Image, np.random.Generator], Image.Image]
    text: Callable[[str], str]
    """What becomes of request and question."""
    suits: Callable[[Judgement], bool]
    """Whether the twin of a record has its verdict."""
    unsuited: str
    """Which records have none."""


TWINS = {
    "mirror": Twin(lambda picture, rng: ImageOps.mirror(picture), swap_sides, is_mirrorable, "writing"),
    "worsen": Twin(worsen, str, lambda record: not _OF_LIGHT.search(record.check.question), "light or sharpness"),
}


def write_twins(
    records: Path, out: Path, *, task: str, per_picture: int = 1, seed: int = 0, max_bad: float = 0.01
) -> tuple[int, int]:
    """Writes the yes/no records in `records` to `out`, each with its twins, `per_picture` of them; gives the numbers of records
    and of twins. Raises InputError if none has a twin, or `out` cannot be written.
    """
    loaded = load_judgements([records], out / "spool", max_bad=max_bad)
    twin, twins = TWINS[task], 0
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        with open_atomically(out / "records.jsonl") as file:
            for record in loaded.records:
                plain = out / "images" / f"{record.picture.digest}.png"
                others = [plain.with_stem(f"{plain.stem}-{task}-{seed}-{n}") for n in range(per_picture)]
                if not others[-1].is_file():  # the last that is written
                    rng = np.random.default_rng((seed, int(record.picture.digest[:15], 16)))
                    picture = record.picture.open()
                    picture.save(plain)
                    for other in others:
                        twin.picture(picture, rng).save(other)
                file.write(_as_line(record, plain, str))
                if twin.suits(record):
                    for other in others:
                        file.write(_as_line(record, other, twin.text))
                    twins += len(others)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    if not twins:
        raise InputError(f"{records}: every record is about {twin.unsuited}, which a twin made by {task} does not keep")
    return len(loaded.records), twins


def _as_line(record: Judgement, picture: Path, change: Callable[[str], str]) -> bytes:
    row = {
        "image": f"images/{picture.name}",
        "request": change(record.request),
        "key_point": record.check.key_point,
        "question": change(record.check.question),
        "verdict": "accept" if record.accept else "reject",
    }
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


SWAP = "swap"
_ALIKE_OF = 1000
"""Other texts among which the most alike is looked for, at most."""
_WORD = re.compile(r"\w+")


def write_swapped(records: Path, out: Path, *, seed: int = 0, max_bad: float = 0.01) -> int:
    """Writes metadata.jsonl to `out`: each picture of `records` with the text of another, the one that has the most words in
    common with its own (Jaccard), of 1,000 that are drawn if there are more; gives the number of pictures. Raises InputError
    if all have one text, or `out` cannot be written."""
    loaded = load_judgements([records], out / "spool", max_bad=max_bad)
    own = {record.picture.path: record.request for record in reversed(loaded.records)}
    words = {record.request: frozenset(_WORD.findall(record.request.casefold())) for record in loaded.records}
    if len(words) < 2:
        raise InputError(f"{records}: all pictures have the same text; swap needs pictures with two or more")
    texts, rng = list(words), np.random.default_rng(seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_atomically(out / "metadata.jsonl") as file:
            for path, text in reversed(own.items()):
                drawn = texts
                if len(texts) > _ALIKE_OF:
                    drawn = [texts[n] for n in rng.choice(len(texts), size=_ALIKE_OF, replace=False)]
                mine = words[text]
                other = max(
                    (other for other in drawn if other != text),
                    key=lambda other: len(mine & words[other]) / max(1, len(mine | words[other])),
                )
                row = {"image": str(path.resolve()), "request": other}
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror or error}") from error
    return len(own)


def _open_all(folder: Path, size: int) -> Iterator[Image.Image]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(SUFFIXES)})")
    for path in paths:
        try:
            picture = open_image(path).convert("RGB")
        except InputError as error:
            console.print(f"left out: {error}")
            continue
        if min(picture.size) < 32:
            console.print(f"left out: {path} is smaller than 32 pixels a side")
            continue
        picture.thumbnail((size, size))
        yield picture


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluator.train.unlabelled", description="Tasks without labels.")
    parser.add_argument("pictures", type=Path, help="folder of pictures; of mirror, worsen and swap, records")
    parser.add_argument("out", type=Path, help="folder for tasks.jsonl, records.jsonl and images")
    parser.add_argument("--task", choices=[*MAKERS, *TWINS, SWAP], default="position")
    parser.add_argument("--per-picture", type=int, choices=range(1, 33), default=1, metavar="1..32")
    parser.add_argument("--size", type=int, choices=range(64, 2049), default=448, metavar="64..2048")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(list(argv))
    if options.task == SWAP:
        count = write_swapped(options.pictures, options.out, seed=options.seed)
        console.print(f"{count:,} pictures, each with the text of another: {options.out / 'metadata.jsonl'}")
        return
    if options.task in TWINS:
        records, twins = write_twins(
            options.pictures, options.out, task=options.task, per_picture=options.per_picture, seed=options.seed
        )
        console.print(f"{records:,} records and {twins:,} twins: {options.out}")
        return
    tasks, records = write_tasks(
        options.pictures,
        options.out,
        task=options.task,
        per_picture=options.per_picture,
        size=options.size,
        seed=options.seed,
    )
    console.print(f"{tasks:,} tasks and {records:,} yes/no records: {options.out}")


if __name__ == "__main__":
    raise SystemExit(main())
