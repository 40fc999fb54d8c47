"""The one runner of all suites: the folder of a run, its journal, the progress on the terminal, and the report.

    OUT/state/journal.jsonl  every finished piece of work by its key, and the settings that the run was begun with
    OUT/state/images/        pictures by the hash of their bytes
    OUT/report.json, .md, .html

A killed run goes on from its journal. Pieces are keyed by content, so that equal prompts, pictures and questions are
paid for once, whatever item or condition asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shlex
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress

from eval_suites.report import Section, write_report
from eval_suites.sources import sha256
from redraft.errors import BackendError, InputError
from redraft.files import write_atomically
from redraft.journal import Journal, OtherJournal

T = TypeVar("T")
FEW = 20
"""Of fewer items than this, the report says that its intervals mean little."""
_GRACE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """The options of `redraft eval`, with their defaults. Which of them a suite takes is for the suite to say."""

    data: Path | None = None
    profile: str = "mini"
    images: int | None = None
    rewriter: str = "own"
    best: bool = True
    loop: bool | None = None
    report_profile: str | None = None
    pictures: Path | None = None
    limit: int | None = None
    variant: str | None = None
    seed: int = 0
    judge: str | None = None
    second_profile: str | None = None
    passes: int = 1
    tie: float = 0.0
    attacks: bool = True
    both_orders: bool = True
    tables: Path | None = None

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}

    def command(self, suite: str, out: Path) -> str:
        """The command that repeats a run."""
        words = ["redraft", "eval", suite]
        for name, value in self.changed().items():
            option = _option(name)
            if value is False:
                words.append("--one-order" if name == "both_orders" else f"--no-{name}")
            else:
                words += [option] if value is True else [option, str(value)]
        return shlex.join([*words, "--out", str(out)])


class AnySuite(Protocol):
    """What every kind of suite has: what it is, what it takes, and how it is run.

    official:   how the benchmark's authors score it.
    measure:    what is measured here; the first line of every report.
    variants:   the parts of the benchmark, the default first.
    needs_data: whether --data has to name its files.
    takes:      the options that it takes beside --profile, --limit, --variant and --out.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def official(self) -> str: ...
    @property
    def measure(self) -> str: ...
    @property
    def variants(self) -> tuple[str, ...]: ...
    @property
    def needs_data(self) -> bool: ...
    @property
    def takes(self) -> tuple[str, ...]: ...

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        """Measures, writes the report, and returns the figures. Raises RedraftError, BackendError if nothing could be
        measured, and typer.Exit(130) if it is interrupted."""
        ...


class Evaluation:
    """One run of a suite, in the folder `out`. Raises InputError for a variant that the suite does not have."""

    def __init__(self, suite: AnySuite, options: EvalOptions, out: Path) -> None:
        self.suite = suite
        self.options = options
        self.out = out
        self.variant = choose_variant(suite, options.variant)
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.sections: Sequence[Section] = ()
        """The tables of the report, when it is written."""
        self._settings: dict[str, Any] = {}

    @contextlib.contextmanager
    def open(self, **settings: Any) -> Iterator[Journal]:
        """The journal, begun with `settings` or continued with the same settings."""
        self._settings = {"suite": self.suite.name, "part": self.variant, **settings}
        with open_journal(self.out, self._settings) as journal:
            yield journal

    def wait_for(
        self, bars: Mapping[str, tuple[str, int]], work: Callable[[Callable[[str], None]], Coroutine[Any, Any, T]]
    ) -> T:
        """Runs `work`, which is given a function that advances one of `bars` (name to title and total). Ctrl-C ends it
        with exit code 130; the same command goes on."""

        async def run(advance: Callable[[str], None]) -> T:
            try:
                return await work(advance)
            except asyncio.CancelledError:
                # The loops' databases are closed by threads of their own, which report to this event loop.
                await asyncio.sleep(_GRACE_S)
                raise

        try:
            with Progress(console=self.console) as progress:
                tasks = {name: progress.add_task(title, total=total) for name, (title, total) in bars.items()}
                return asyncio.run(run(lambda name: progress.advance(tasks[name])))
        except KeyboardInterrupt:
            self.console.print("interrupted; the same command goes on")
            raise typer.Exit(130) from None

    def report(
        self,
        figures: Mapping[str, Any],
        sections: Callable[[Mapping[str, Any]], Sequence[Section]],
        *,
        notes: Sequence[str] = (),
        failure: str | None = None,
        **drawings: Any,
    ) -> dict[str, Any]:
        """Writes the report and returns all figures. `failure`: why nothing could be measured, raised as BackendError
        when the report is there. `drawings`: what the figures of the page are drawn from."""
        suite = self.suite
        whole = {
            "measure": f"{suite.title}: {suite.measure}",
            "title": suite.title,
            "official": suite.official,
            "source": suite.source,
            "licence": suite.licence,
            "notes": list(notes),
            **figures,
            "command": self.options.command(suite.name, self.out),
            "settings": self._settings,
        }
        self.sections = sections(whole)
        page = write_report(self.out, whole, self.sections, **drawings)
        if failure is not None:
            raise BackendError(f"nothing could be measured: {failure}; {page} has the rest")
        return whole


def write_tables(folder: Path, files: Mapping[str, str]) -> None:
    """Writes a suite's own tables, file name to text. Raises InputError if they cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text.encode())
    except OSError as error:
        raise InputError(f"cannot write the tables into {folder}: {error.strerror}") from error


class LoadedFiles(Protocol):
    """What was read from files."""

    @property
    def files(self) -> tuple[Path, ...]: ...


def open_journal(out: Path, settings: Mapping[str, Any]) -> Journal:
    """The journal in the folder `out`, begun with `settings` or continued with the same settings.

    Raises Occupied if another process uses the folder, InputError if it was begun with other settings (a changed data
    file among them), or if it cannot be written.
    """
    try:
        return Journal(out / "state" / "journal.jsonl", "evaluation", about=settings, advice="choose another --out")
    except OtherJournal as error:
        files = [name.removeprefix("data.") for name in error.changed if name.startswith("data.")]
        if not files:
            raise
        raise InputError(
            f"{', '.join(files)} changed since the run in {out} began; choose another --out, or put back what it was "
            "begun with"
        ) from None


def choose_variant(suite: AnySuite, variant: str | None) -> str:
    """`variant`, or the suite's first. Raises InputError."""
    if variant is None:
        return suite.variants[0]
    if variant not in suite.variants:
        there = ", ".join(name for name in suite.variants if name) or "no parts"
        raise InputError(f"{suite.name} has no part {variant!r}; there are {there}")
    return variant


def check_options(suite: AnySuite, options: EvalOptions) -> None:
    """Raises InputError if data is missing, or if options are given for which the suite has no use."""
    takes = (*(("data",) if suite.needs_data else ()), "profile", "limit", "variant", *suite.takes)
    others = [name for name in options.changed() if name not in takes]
    if suite.needs_data and options.data is None:
        raise InputError(f"{suite.name} needs --data, the files from {suite.source}; redraft ships no benchmark's data")
    if others:
        wrong, right = (", ".join(map(_option, names)) for names in (others, takes))
        raise InputError(f"{suite.name} has no use for {wrong}; it takes {right}")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def spread_evenly(items: Sequence[T], limit: int | None) -> tuple[T, ...]:
    """`limit` items at even distances: benchmarks are sorted by category, and the first few would be all of one."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // limit] for i in range(limit))


def note_count(count: int, total: int, unit: str = "items") -> list[str]:
    """Notes on how many items were taken, and on whether they are too few."""
    notes = [f"{count:,} of {total:,} {unit}, evenly spread over the file."] if count < total else []
    return [*notes, f"Fewer than {FEW} {unit}: the intervals mean little."] if count < FEW else notes


def hash_data(data: LoadedFiles) -> dict[str, str]:
    """File name to hash of what was loaded; many files are one entry."""
    if len(data.files) <= 8:
        names = [path.name for path in data.files]
        return {n if names.count(n) == 1 else str(p): sha256(p) for n, p in zip(names, data.files, strict=True)}
    every = hashlib.sha256("".join(sha256(path) for path in data.files).encode()).hexdigest()
    return {f"{data.files[0].parent} and others, {len(data.files)} files": every}
