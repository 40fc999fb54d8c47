"""The tables of docs/editing.md: edits of the mini world, by four ways of editing, and drawing with and without edits.

    python -m eval_suites.cutout_edits --pairs 300 --sessions 200 --prompts 200 --out docs/results

The instructions are people's words for edits of held-out combinations. The profile's own judge chooses and decides when
to stop; the oracle, which reads the pixels, only reports. In a session the next instruction is about the picture that
the turn before it left: its user looks with the oracle's eyes. The run is kept in --work, and a second call of the same
command goes on from there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from agent.models import Models, open_models
from eval_suites.cutout_edits_report import draw_table, edit_table, markdown, session_table
from eval_suites.cutout_edits_ways import MOST, WAYS, Editing, pairs, session_of
from eval_suites.generation.cutouts import prompts
from eval_suites.journal import open_journal
from eval_suites.painting import seed_of
from redraft.journal import Journal
from redraft.profiles import Profile, load_profile
from redraft.store import ImageStore

console = Console(stderr=True)


async def measure(
    models: Models, profile: Profile, journal: Journal, options: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """All figures, as plain numbers."""
    editing = Editing(models, profile, journal, options.work)
    store = ImageStore(options.work / "state" / "images")
    found: dict[str, Any] = {}

    async def counted(task: Any, work: Awaitable[Any]) -> Any:
        value = await work
        progress.advance(task)
        return value

    asked_for = pairs(options.pairs, options.seed)
    for way in WAYS if options.pairs else ():
        bar = progress.add_task(f"pairs, {way}", total=len(asked_for))
        found[way] = await asyncio.gather(*(counted(bar, editing.edited(way, one)) for one in asked_for))
    sessions: dict[str, Any] = {}
    for way in WAYS if options.sessions else ():
        bar = progress.add_task(f"sessions, {way}", total=options.sessions)
        talks = (session_of(editing, way, options.seed, n, store) for n in range(options.sessions))
        sessions[way] = await asyncio.gather(*(counted(bar, talk) for talk in talks))
    drawn: dict[str, Any] = {}
    wordings = prompts(options.prompts, options.seed)
    for way in ("without", "with") if options.prompts else ():
        bar = progress.add_task(f"drawing {way} edits", total=len(wordings))
        runs = (
            editing.drawn(way, wording, f"{n:05d}", seed_of(options.seed, wording.text, 0))
            for n, wording in enumerate(wordings)
        )
        drawn[way] = await asyncio.gather(*(counted(bar, run) for run in runs))
    figures: dict[str, Any] = {"pairs": options.pairs, "sessions": options.sessions, "prompts": options.prompts}
    if found:
        figures["edits"] = edit_table(found)
    if sessions:
        figures["turns"] = session_table(sessions)
    if drawn:
        figures["drawing"] = draw_table(drawn)
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` in place of the process's own arguments."""
    parser = argparse.ArgumentParser(description="Evaluates editing in the mini world.")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--name", default="edits", help="of the files in --out")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("work/eval/edits"))
    options = parser.parse_args(argv)
    profile = load_profile(options.profile)
    command = (
        f"python -m eval_suites.cutout_edits --pairs {options.pairs} --sessions {options.sessions} "
        f"--prompts {options.prompts} --seed {options.seed}"
    )
    # Counts may grow from one call to the next; what was measured stays.
    settings = {"profile": profile.model_dump(mode="json"), "seed": options.seed, "most": MOST}
    with open_journal(options.work, settings) as journal, Progress(console=console) as progress:
        models = open_models(profile)
        try:
            figures = asyncio.run(measure(models, profile, journal, options, progress))
        finally:
            models.close()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (options.out / f"{options.name}.md").write_text(markdown(figures, command), encoding="utf-8")
    console.print(markdown(figures, command))


if __name__ == "__main__":
    main()
