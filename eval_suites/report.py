"""The report of a run: report.json (every figure), report.md (tables), report.html (one self-contained page).

write_report(out, figures, [Section("Conditions", "Percent, 95% intervals.", Table(["row", "share"], rows))])
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from redraft.errors import InputError
from redraft.files import write_atomically
from redraft.templates import load_page


class Table(NamedTuple):
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A heading, a sentence, and a table. `drawing`: a template whose drawing follows on the page."""

    heading: str
    text: str
    table: Table | None = None
    drawing: str = ""


def write_report(out: Path, figures: Mapping[str, Any], sections: Sequence[Section], **drawings: Any) -> Path:
    """Writes the three files into `out` and returns the page's path. `drawings` are values for the sections' drawings.
    Raises InputError if they cannot be written."""
    try:
        data = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(out / "report.json", (data + "\n").encode())
        write_atomically(out / "report.md", markdown(figures, sections).encode())
        write_atomically(out / "report.html", html(figures, sections, **drawings).encode())
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error.strerror}") from error
    return out / "report.html"


def markdown(figures: Mapping[str, Any], sections: Sequence[Section]) -> str:
    """Every table of the report. The first line says what is measured."""
    lines = [figures["measure"], "", f"# {heading(figures)}", ""]
    lines += [f"- {note}" for note in figures["notes"]]
    lines += ["", f"`{figures['command']}`"]
    for section in sections:
        if section.table is not None:
            lines += ["", f"## {section.heading}", "", *([section.text, ""] if section.text else [])]
            lines += table_lines(section.table)
    lines += ["", "## Settings", "", "```json", json.dumps(figures["settings"], indent=2, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


def html(figures: Mapping[str, Any], sections: Sequence[Section], **drawings: Any) -> str:
    """The page as text. Everything that came from data or models is escaped, and the page may run no script."""
    return load_page("eval_suites", "report.html.j2").render(
        run=figures,
        heading=heading(figures),
        sections=sections,
        settings=json.dumps(figures["settings"], indent=2, ensure_ascii=False),
        **drawings,
    )


def heading(figures: Mapping[str, Any]) -> str:
    return f"{figures['title']}: {figures['judge']}" if "judge" in figures else str(figures["title"])


def percent(figure: Mapping[str, Any] | None) -> str:
    """An interval in percent: 62.5 [58.1, 66.9]."""
    return _hundredfold(figure, "")


def signed(figure: Mapping[str, Any] | None) -> str:
    """A difference in percentage points: +4.2 [+1.0, +7.3]."""
    return _hundredfold(figure, "+")


def _hundredfold(figure: Mapping[str, Any] | None, sign: str) -> str:
    if figure is None:
        return "-"
    mean, *bounds = (f"{100 * figure[key]:{sign}.1f}" for key in ("mean", "low", "high") if figure[key] is not None)
    return f"{mean} [{', '.join(bounds)}]" if bounds else mean


def table_lines(table: Table) -> list[str]:
    """A table as lines of Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(table.head), "|" + "---|" * len(table.head), *(line(row) for row in table.rows)]
