"""Suites that measure in rows of their own, and not condition by condition: the tables of the mini world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval_suites.report import Section, table_lines
from eval_suites.runner import Evaluation
from redraft.statistics import Interval


@dataclass(frozen=True)
class TableSuite:
    """A suite that `measure`s by itself and returns its figures, having written its report. `takes`: options beside
    those that every suite takes."""

    name: str
    title: str
    measure: str
    work: Callable[[Evaluation], dict[str, Any]]
    official: str = "None."
    source: str = "made on the spot by mini/"
    licence: str = "Apache-2.0"
    variants: tuple[str, ...] = ("",)
    needs_data: bool = False
    takes: tuple[str, ...] = ("seed", "tables")

    def run(self, evaluation: Evaluation) -> dict[str, Any]:
        return self.work(evaluation)


def interval_text(figure: Mapping[str, Any] | None) -> str:
    """0.900 [0.870, 0.930]."""
    return "-" if figure is None else str(Interval(**figure))


def tables_text(first: str, command: str, sections: Sequence[Section]) -> str:
    """A page of Markdown with nothing but the tables."""
    lines = [f"{first} 95% bootstrap intervals. Made by `{command}`."]
    for section in sections:
        if section.table is not None:
            lines += ["", section.text or f"{section.heading}:", "", *table_lines(section.table)]
    return "\n".join(lines) + "\n"
