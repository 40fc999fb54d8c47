"""Measures the house: the figures of docs/design.md.

    python scripts/house.py            # all figures, as a Markdown table
    python scripts/house.py --static   # only those that need no model

A file or function counts as entered if one of its functions is really called (`sys.setprofile`, in every thread), not if it
is imported only. Each command runs in a fresh process on the profile mini.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("redraft", "core", "rewriter", "editors", "evaluator", "agent", "mini", "eval_suites")
REQUEST = "a red star to the left of a big blue circle, on mint paper"

_TRACED = """
import json, sys, threading
root, out, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
entered = set()
def note(frame, event, argument):
    code = frame.f_code
    if event != "call" or code in entered or not code.co_filename.startswith(root) or not code.co_flags & 1:
        return  # flag 1: a function, neither a module nor the body of a class
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(root):
            return  # called by an import
        frame = frame.f_back
    entered.add(code)
sys.path.insert(0, root)
from agent.cli import main
threading.setprofile(note)
sys.setprofile(note)
sys.argv = ["redraft", *arguments]
try:
    code = main()
except SystemExit as error:
    code = error.code
sys.setprofile(None)
threading.setprofile(None)
if code:
    raise SystemExit(code)
own = sorted(
    {(code.co_filename[len(root) + 1:], code.co_qualname) for code in entered if not code.co_name.startswith("<")}
)
with open(out, "w") as file:
    json.dump(own, file)
"""


def trace_command(arguments: list[str]) -> tuple[int, int]:
    """The files and functions of the project that one command enters. Raises RuntimeError if the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "entered.json"
        command = [sys.executable, "-c", _TRACED, str(ROOT), str(out), json.dumps(arguments)]
        run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if run.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {run.returncode}:\n{run.stderr[-2000:]}")
        entered = [tuple(entry) for entry in json.loads(out.read_text())]
    entered = [(file, name) for file, name in entered if file.split("/")[0] in PACKAGES]
    return len({file for file, _ in entered}), len(set(entered))


def measure_commands() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.txt"
        rows.write_text(REQUEST + "\n")
        draw = [REQUEST, "--seed", "7", "--out", str(folder), "--json"]
        result = subprocess.run(
            [sys.executable, "-m", "agent.cli", "draw", *draw], capture_output=True, text=True, cwd=ROOT, check=True
        )
        picture = json.loads(result.stdout)["image"]
        commands = {
            "draw": ["draw", *draw],
            "edit": ["edit", picture, "make the star blue", "--seed", "7", "--out", str(folder), "--json"],
            "enhance, one row": ["enhance", str(rows), str(folder / "better.jsonl"), "--no-resume"],
        }
        figures = {}
        for label, arguments in commands.items():
            files, functions = trace_command(arguments)
            figures[f"files / functions entered by one {label}"] = f"{files} / {functions}"
    return figures


def list_sources(*, tests: bool = False) -> list[Path]:
    """The tracked Python files: those of tests/, or all others."""
    names = subprocess.run(
        ["git", "ls-files", "*.py"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    return [ROOT / name for name in names if name.startswith("tests/") is tests and (ROOT / name).is_file()]


def _docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def measure_sources() -> dict[str, str]:
    sources = list_sources()
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    classes: dict[str, set[Path]] = {}
    words = Counter[str]()
    functions: list[str] = []
    comprehensions = package_lines = 0
    importers: dict[str, set[Path]] = {}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sources
        if path.relative_to(ROOT).parts[0] in PACKAGES and path.name not in ("__init__.py", "__main__.py")
    }
    for path, text in texts.items():
        if path.relative_to(ROOT).parts[0] not in PACKAGES:
            continue
        package_lines += text.count("\n")
        tree = ast.parse(text)
        for docstring in _docstrings(tree):
            words.update(re.findall(r"[a-z']+", docstring.lower()))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if not (node.name.startswith("__") and node.name.endswith("__")):
                    functions.append(node.name.strip("_"))
            elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                comprehensions += 1
            elif isinstance(node, ast.ImportFrom) and node.module:
                importers.setdefault(node.module, set()).add(path)
                for name in node.names:
                    importers.setdefault(f"{node.module}.{name.name}", set()).add(path)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, set()).add(path)
    several = sorted(name for name, files in classes.items() if len(files) > 1)
    single = [name for name in modules if len(importers.get(name, ())) == 1]
    total = sum(words.values())
    per_thousand = {word: 1000 * sum(words[w] for w in word.split("+")) / total for word in ("where", "if+when")}
    one_word = sum("_" not in name for name in functions) / len(functions)
    return {
        "lines of Python in the packages": f"{package_lines:,}",
        "modules with exactly one importer": f"{len(single)} of {len(modules)}",
        "public class names in several modules": f"{len(several)}" + (f" ({', '.join(several)})" if several else ""),
        "one-word function names": f"{one_word:.0%}",
        "comprehensions per 1,000 lines": f"{1000 * comprehensions / package_lines:.0f}",
        'docstrings, per 1,000 words: "where" / "if" and "when"': f"{per_thousand['where']:.1f} / {per_thousand['if+when']:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--static", action="store_true", help="leave out the figures that run a model")
    arguments = parser.parse_args()
    figures = {} if arguments.static else measure_commands()
    figures |= measure_sources()
    print("| figure | value |\n|---|---|")
    for label, value in figures.items():
        print(f"| {label} | {value} |")


if __name__ == "__main__":
    main()
