"""Names and texts from outside: too long for a file system, on a disk that cannot be written, in a deceiving order."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from agent.cli import main
from agent.runfolder import RunFolder, last_run
from agent.terminal import escape
from redraft.errors import InputError, show_directions
from redraft.templates import load_page

LONG = "x" * 300
COMMANDS = (
    "draw star --out LONG", "resume LONG", "resume --last --out LONG", "runs --out LONG", "edit LONG blue",
    "judge LONG star", "enhance LONG out.jsonl --engine fake", "enhance in.txt LONG.jsonl --engine fake",
    "chat --out LONG", "chat --conversation LONG", "chat --list --out LONG", "draw star --profile LONG",
    "serve --data LONG", "serve --profile LONG", "serve --data in.txt/x", "serve --data /proc/x",
    "export preferences LONG out", "get LONG", "eval LONG",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_cannot_be_used_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("a star\n")
    with pytest.raises(SystemExit) as end:
        main(command.replace("LONG", LONG).split())
    said = capsys.readouterr().err
    assert end.value.code == 2, said
    assert re.fullmatch(r"error: [^\n]+\n", said), said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SystemExit):
        main(["serve", "--data", str(tmp_path / "data")])
    assert capsys.readouterr().err.startswith("error: cannot use")


def test_the_last_run_is_the_one_that_was_written_last_whatever_the_clock_says(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs"):
        last_run(tmp_path)
    created = ("2030-01-01T00:00:00+00:00", "2020-01-01T00:00:00+00:00")
    folders = []
    for time in created:
        folder = RunFolder.create(tmp_path, "a star")
        begun = {"format": 3, "created": time, "request": "a star", "seed": 1, "ask": False, "limits": {}, "stop": None}
        folder.write_record(begun)
        folders.append(folder)
    assert last_run(tmp_path) == folders[1].path
    folders[0].note_last()
    assert last_run(tmp_path) == folders[0].path
    for wrong in ("../elsewhere", "gone", ""):
        (tmp_path / ".last-run").write_text(wrong)
        assert last_run(tmp_path) == folders[0].path, "then the latest by its date"


def test_marks_of_direction_are_shown_in_terminals_and_pages() -> None:
    said = "a \u202egnp.exe\u202c star \u2066\u200f"
    shown = "a <U+202E>gnp.exe<U+202C> star <U+2066><U+200F>"
    assert (show_directions(said), escape(said)) == (shown, shown)
    family = "👨\u200d👩\u200d👧 می\u200cخواهم שלום"
    assert escape(family) == family, "scripts and emoji are left as they are"
    page = load_page("agent", "chat.html.j2").render(name=said, turns=[], home="/")
    assert "\u202e" not in page
    assert "a &lt;U+202E&gt;gnp" in page
