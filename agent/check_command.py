"""`redraft check`: what the guard finds in a rewrite, or in a file of requests with their rewrites. Needs no model and no
profile."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.terminal import escape, open_console, write_json
from redraft.errors import InputError, one_line
from rewriter.batch.tables import Reject, open_source
from rewriter.guard import Finding, check_intent, findings_json
from rewriter.request import clean_request

REQUESTS = ("request", "original", "original_prompt", "input")
REWRITES = ("rewrite", "prompt", "enhanced", "output")
"""Columns that are taken for the request and for its rewrite, in this order, if none is named. What `redraft enhance` writes
has them."""
_SHOWN = 100


def check(request: str, rewrite: str, *, as_json: bool) -> None:
    """Prints what `rewrite` breaks of `request`. Raises InputError if the request cannot be used."""
    findings = check_intent(clean_request(request), rewrite)
    if as_json:
        write_json(findings_json(findings), sys.stdout)
        return
    console = open_console(sys.stdout)
    for finding in findings:
        console.print(escape(str(finding)), soft_wrap=True)
    if not findings:
        console.print("ok: the rewrite asks for what the request asks for, as far as the guard can tell")


@dataclass
class PairsReport:
    """What was found in a file of pairs. `broken`: row, request, rewrite and findings of each pair that is not kept."""

    pairs: int = 0
    broken: list[tuple[int, str, str, Sequence[Finding]]] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.broken and not self.unreadable

    def as_json(self) -> dict[str, Any]:
        broken = [
            {"row": row, "request": request, "rewrite": rewrite, "findings": findings_json(findings)["findings"]}
            for row, request, rewrite, findings in self.broken
        ]
        unreadable = [{"row": row, "why": why} for row, why in self.unreadable]
        return {"ok": self.ok, "pairs": self.pairs, "broken": broken, "unreadable": unreadable}


def check_pairs(path: Path, *, request: str | None, rewrite: str | None, as_json: bool) -> bool:
    """Holds each pair of a file (.jsonl, .csv, .tsv, .parquet) to the guard, and prints those that break it. Whether none
    does. Raises InputError for a file without such columns, or without pairs."""
    report = read_pairs(path, request=request, rewrite=rewrite)
    if as_json:
        write_json(report.as_json(), sys.stdout)
        return report.ok
    console = open_console(sys.stdout)
    for row, text, prompt, findings in report.broken:
        console.print(f"{escape(str(path))}:{row}: {escape(one_line(text)[:_SHOWN])}", soft_wrap=True)
        console.print(f"    {escape(one_line(prompt)[:_SHOWN])}", soft_wrap=True)
        for finding in findings:
            console.print(f"    {escape(str(finding))}", soft_wrap=True)
    for row, why in report.unreadable:
        console.print(f"{escape(str(path))}:{row}: {escape(why)}", soft_wrap=True)
    bad = len(report.broken) + len(report.unreadable)
    console.print(f"{report.pairs:,} pairs, {'all kept' if not bad else f'{bad:,} not kept'}")
    return report.ok


def read_pairs(path: Path, *, request: str | None = None, rewrite: str | None = None) -> PairsReport:
    """The pairs of a file, each held to the guard. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    table = open_source(str(path), request or _first_of(path, REQUESTS))
    report = PairsReport()
    for row in table.rows():
        if isinstance(row, Reject):
            report.unreadable.append((row.number, row.why))
            continue
        column = rewrite or next((name for name in REWRITES if name in row.columns), None)
        text = None if column is None else row.columns.get(column)
        if not isinstance(text, str):
            wanted = f"the column {column!r}" if column else f"one of the columns {', '.join(REWRITES)}"
            raise InputError(f"{path}: row {row.number} has no text in {wanted}; name the column with --rewrite-column")
        report.pairs += 1
        if findings := check_intent(row.request, text):
            report.broken.append((row.number, row.request, text, findings))
    if not report.pairs and not report.unreadable:
        raise InputError(f"{path}: there are no pairs in it")
    return report


def _first_of(path: Path, names: Sequence[str]) -> str | None:
    """The first of `names` that the file has as a column; None leaves it to the reader of tables."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        first = next(open_source(str(path), names[0]).rows(), None)
        # A row without that column is rejected, and its columns are not told; the names are tried in turn.
        if not isinstance(first, Reject):
            return names[0]
        for name in names[1:]:
            if not isinstance(next(open_source(str(path), name).rows(), first), Reject):
                return name
        return None
    for name in names:
        try:
            open_source(str(path), name)
        except InputError:
            continue
        return name
    return None
