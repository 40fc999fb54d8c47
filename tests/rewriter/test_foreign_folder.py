"""Programs that are started run nothing of the current folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redraft.processes import isolated_command

ROOT = Path(__file__).parents[2]
ROOMS = ("redraft", "rewriter", "editors", "evaluator", "agent", "eval_suites", "mini")
STARTS = {
    "create_subprocess_exec",
    "create_subprocess_shell",
    "Popen",
    "check_call",
    "check_output",
    "system",
    "spawnv",
}
HOSTILE = (
    "json",
    "pickle",
    "struct",
    "asyncio",
    "typing",
    "rewriter",
    "redraft",
    "sitecustomize",
    "usercustomize",
    "re",
)
BATCH = """
import asyncio, os, sys
from redraft.chat import ChatReply
from rewriter.batch.reviews import ReviewPool
from rewriter.reply import Rules

async def main():
    pool = ReviewPool(Rules(), workers=2, inline=0)
    reply = ChatReply("<think>x</think><answer>A red fox in fresh snow.</answer>")
    print([(await pool("a red fox", reply)).prompt for _ in range(3)])
    await pool.aclose()

os.chdir(sys.argv[1])
sys.path.insert(0, "")
sys.path.insert(0, os.getcwd())
asyncio.run(main())
"""


@pytest.mark.parametrize("package", [False, True])
def test_workers_that_read_replies_run_nothing_of_the_current_folder(tmp_path: Path, package: bool) -> None:
    for name in HOSTILE:
        file = tmp_path / name / "__init__.py" if package else tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r} + '\\n')\n")
    done = subprocess.run(
        [sys.executable, "-c", BATCH, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    ran = (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""
    assert done.returncode == 0, done.stderr
    assert ran == ""
    assert done.stdout.strip() == str(["A red fox in fresh snow."] * 3)


def test_every_start_of_python_is_isolated() -> None:
    """Reads the sources: whoever starts sys.executable says -I, or takes the command that says it."""
    assert isolated_command("pass")[:2] == [sys.executable, "-I"]
    starts = 0
    for path in [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in STARTS or (called == "run" and "subprocess" in ast.unparse(node.func)):
                starts += 1
                text = ast.unparse(node)
                assert "sys.executable" not in text or "'-I'" in text, f"{path}:{node.lineno}"
    assert starts
