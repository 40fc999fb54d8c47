"""From the options of `redraft eval` to the figures and the report on a judge, or on edits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, get_args

import typer
from rich.console import Console
from rich.progress import Progress

from eval_suites.conditions import NoChecklists
from eval_suites.editing.suites import EditSuite, edit_figures, require_edits, score_edits
from eval_suites.generating import FEW, chosen_variant
from eval_suites.journal import open_journal
from eval_suites.judging.attacks import WRITTEN
from eval_suites.judging.comparers import EditComparer, LikertComparer, PairwiseComparer, PointwiseComparer
from eval_suites.judging.report import write_judge_report
from eval_suites.judging.runner import Plan, asked_of, judge_pairs, judge_ratings
from eval_suites.judging.types import Comparer, JudgeData, JudgeSuite
from eval_suites.runner import data_settings, spread
from evaluator.align import AlignEvaluator
from evaluator.edits.judges import Method, edit_judge
from evaluator.edits.types import EditJudge
from evaluator.judge import open_judge
from evaluator.pairs.judges import LikertJudge, WordsPairJudge, YesNoPairJudge
from evaluator.types import Judge
from redraft.chat import open_chat
from redraft.errors import BackendError, InputError
from redraft.profiles import JudgeConfig, Profile, load_profile
from redraft.templates import style_folder

T = TypeVar("T")
EDIT_METHODS: tuple[str, ...] = get_args(Method)


def run_judging(suite: JudgeSuite, options: Mapping[str, Any], out: Path, command: str) -> dict[str, Any]:
    """Measures a judge on a suite, writes the report, and returns the figures. Raises RedraftError."""
    variant = chosen_variant(suite, options["variant"])
    data = suite.load(options["data"] or Path(), variant, out / "state" / "inputs")
    edits = bool(data.pairs) and data.pairs[0].source is not None
    every = (*data.pairs, *data.rated)
    data = JudgeData(data.files, spread(data.pairs, options["limit"]), spread(data.rated, options["limit"]), data.notes)
    profile = load_profile(options["profile"])
    second = load_profile(options["second_profile"]) if options["second_profile"] else None
    method = options["judge"] or ("editscore" if edits else "pointwise")
    concurrency = profile.judge.model.server.concurrency if profile.judge.model.server else 4
    plan = Plan(options["tie"], options["passes"], options["attacks"], options["both_orders"], concurrency)
    settings = {
        "suite": suite.name,
        "part": variant,
        "data": data_settings(data),
        "pairs": len(data.pairs),
        "pictures": len(data.rated),
        "judge": method,
        "plan": asdict(plan),
        "profile": profile.judge.model_dump(mode="json"),
        "second_profile": None if second is None else second.judge.model_dump(mode="json"),
    }
    figures: dict[str, Any] = {}
    with open_journal(out, settings) as journal:
        judge = open_comparer(profile, method, edits)
        other = None if second is None else open_comparer(second, method, edits)
        defences = open_defences(profile, method, edits) if plan.attacks and data.pairs else {}
        attacks = (WRITTEN, *suite.attacks)

        async def work(done: Any) -> None:
            if data.pairs:
                told = await judge_pairs(
                    data.pairs, judge, other, plan, journal, done, attacks=attacks, defences=defences
                )
                figures.update(told, defences=DEFENCES if defences else "")
            if data.rated:
                evaluator = AlignEvaluator(NoChecklists(), open_judge(profile.judge))
                figures.update(await judge_ratings(data.rated, evaluator, judge.name, plan, journal, done))

        _run("judging", asked_of(data, judge, other, plan, len(attacks), len(defences)), work)
        notes = [*data.notes, *_few(len(data.pairs) + len(data.rated), len(every))]
        if figures.get("first_failure"):
            notes.append(f"The first failure: {figures['first_failure']}; the same command asks again.")
        if plan.passes > 1 and not edits:
            notes.append(
                "A judge that reads its first token's probabilities repeats itself; passes tell of noise alone."
            )
        figures |= _head(suite, judge.name, notes, command, settings)
        page = write_judge_report(out, figures)
    lost = [figures[key]["failed"] == figures[key][of] for key, of in _COUNTED.items() if key in figures]
    if lost and all(lost):
        raise BackendError(f"nothing could be measured: {figures.get('first_failure')}; {page} has the rest")
    return figures


_COUNTED = {"accuracy": "pairs", "ratings": "pictures"}


def run_editing(suite: EditSuite, options: Mapping[str, Any], out: Path, command: str) -> dict[str, Any]:
    """Scores finished edits of a suite, writes the report, and returns the figures. Raises RedraftError."""
    variant = chosen_variant(suite, options["variant"])
    if options["pictures"] is None:
        raise InputError(f"{suite.name} scores finished edits; give the folder they lie in as --pictures")
    data = suite.load(options["data"], variant, out / "state" / "inputs")
    items = spread(data.items, options["limit"])
    require_edits(items, options["pictures"])
    profile = load_profile(options["profile"])
    method = options["judge"] or "editscore"
    settings = {
        "suite": suite.name,
        "part": variant,
        "data": data_settings(data),
        "edits": len(items),
        "pictures": str(options["pictures"]),
        "judge": method,
        "passes": options["passes"],
        "profile": profile.judge.model_dump(mode="json"),
    }
    figures: dict[str, Any] = {}
    with open_journal(out, settings) as journal:
        judge = open_edit_judge(profile, method, options["passes"])

        async def work(done: Any) -> None:
            scores = await score_edits(items, options["pictures"], judge, journal, done)
            figures["edits"] = edit_figures(items, scores)

        _run("judging", len(items), work)
        notes = [*data.notes, *_few(len(items), len(data.items))]
        figures |= _head(suite, judge.name, notes, command, settings)
        page = write_judge_report(out, figures)
    row = figures["edits"]["suite"]["all"]
    if row["failed"] == row["edits"]:
        raise BackendError(f"the judge scored none of {row['edits']} edits; {page} has the rest")
    return figures


def open_comparer(profile: Profile, method: str, edits: bool) -> Comparer:
    """The judge of `profile` as a judge of pairs. Raises InputError for a method that does not fit."""
    if method == "pairwise":
        return PairwiseComparer(YesNoPairJudge(open_chat(profile.judge.model), profile.judge.min_label_mass))
    if method == "words" and not edits:
        return PairwiseComparer(WordsPairJudge(open_chat(profile.judge.model)))
    if method == "likert" and not edits:
        return LikertComparer(LikertJudge(open_chat(profile.judge.model), profile.judge.min_label_mass))
    if edits and method in EDIT_METHODS:
        return EditComparer(open_edit_judge(profile, method, 1))
    if method == "pointwise" and not edits:
        return _pointwise(profile, profile.judge, "")
    fitting = ["pairwise", *(EDIT_METHODS if edits else ("pointwise", "likert", "words"))]
    raise InputError(f"--judge {method} does not fit pairs of {'edits' if edits else 'pictures'}: {', '.join(fitting)}")


DEFENCES = (
    "Without defences: no fence around the prompt, no word about writing in pictures, and any answer counts however "
    "small its probability. Guarded: of each picture it is also asked whether writing in it tells a judge what to say, "
    "and the picture is refused if so."
)


def open_defences(profile: Profile, method: str, edits: bool) -> dict[str, Comparer]:
    """The same judge without what defends it, and with a guard, where there are such."""
    config = profile.judge
    if method == "pairwise":
        return {"without defences": PairwiseComparer(YesNoPairJudge(open_chat(config.model), bare=True))}
    if method != "pointwise" or edits:
        return {}
    bare: dict[str, object] = {"min_label_mass": 0.0, "guard": False}
    if config.style == "keypoint":
        bare["style"] = "bare"
    made: dict[str, Comparer] = {
        "without defences": _pointwise(profile, config.model_copy(update=bare), " without defences")
    }
    if not config.guard and "guard" in {path.stem for path in style_folder("evaluator", config.style).glob("*.txt")}:
        made["guarded"] = _pointwise(profile, config.model_copy(update={"guard": True}), "")
    return made


def _pointwise(profile: Profile, config: JudgeConfig, suffix: str) -> Comparer:
    judge = open_judge(config)
    return PointwiseComparer(AlignEvaluator(NoChecklists(), judge, profile.evaluator), judge.name + suffix)


def open_edit_judge(profile: Profile, method: str, passes: int) -> EditJudge:
    """The judge of `profile` as a judge of edits. Raises InputError for an unknown method."""
    fitting: Sequence[Method] = [one for one in get_args(Method) if one == method]
    if not fitting:
        raise InputError(f"--judge {method} does not fit edits: {', '.join(EDIT_METHODS)}")
    judge: Judge | None = open_judge(profile.judge) if method == "checks" else None
    chat = open_chat(profile.rewriter.model if method == "checks" else profile.judge.model)
    return edit_judge(fitting[0], chat=chat, judge=judge, passes=passes, pass_at=profile.limits.pass_at)


def _run(title: str, total: int, work: Any) -> None:
    console = Console(stderr=True, highlight=False, markup=False)
    try:
        with Progress(console=console) as progress:
            bar = progress.add_task(title, total=total)
            made: Coroutine[Any, Any, None] = work(lambda: progress.advance(bar))
            asyncio.run(made)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on")
        raise typer.Exit(130) from None


def _few(count: int, of: int) -> list[str]:
    notes = [f"{count:,} of {of:,} items, evenly spread over the file."] if count < of else []
    return [*notes, f"Fewer than {FEW} items: the intervals mean little."] if count < FEW else notes


def _head(suite: Any, judge: str, notes: list[str], command: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "measure": f"{suite.title}: {suite.measure}",
        "title": suite.title,
        "judge": judge,
        "official": suite.official,
        "source": suite.source,
        "licence": suite.licence,
        "notes": notes,
        "command": command,
        "settings": settings,
    }
