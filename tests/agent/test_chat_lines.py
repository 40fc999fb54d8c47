"""The lines of `redraft chat`: edited, found again, completed; Ctrl-C drops one and Ctrl-D ends."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input

from agent.chat.terminal import Dropped, EditedLines, complete
from agent.cli import main


async def typed(keys: str, history: Path) -> str | None:
    with create_pipe_input() as pipe, create_app_session(input=pipe):
        pipe.send_text(keys)
        return await EditedLines(history, io.StringIO(), lambda: 2).read("> ")


async def test_a_line_is_edited_and_found_again(tmp_path: Path) -> None:
    history = tmp_path / "history"
    assert await typed("a str\x1b[Da\x1b[C\r", history) == "a star"
    assert await typed("\x1b[A blue\r", history) == "a star blue"


async def test_ctrl_c_drops_the_line_and_ctrl_d_ends(tmp_path: Path) -> None:
    with pytest.raises(Dropped):
        await typed("a star\x03", tmp_path / "history")
    assert await typed("\x04", tmp_path / "history") is None


def test_what_a_line_may_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat.png").touch()
    monkeypatch.chdir(tmp_path)

    def words(text: str) -> list[str]:
        return [completion.text for completion in complete(text, pictures=2)]

    assert words("/b") == ["/back", "/branch"]
    assert words("/back ") == ["1", "2"]
    assert words("/compare 1 2") == ["2"]
    assert words("/questions o") == ["on", "off"]
    assert words("/open ca") == ["t.png"]
    assert words("a star") == []


def test_help_speaks_of_requests_and_of_completion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "Rewrites a request into a prompt" in shown
    assert "--install-completion" in shown
