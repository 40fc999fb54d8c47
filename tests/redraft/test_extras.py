"""A package that a plain install leaves out is named in one sentence, with the extra that has it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from redraft.errors import MissingExtra
from redraft.extras import EXTRAS, mapping_missing, require

ROOT = Path(__file__).resolve().parents[2]

WITHOUT = """
import sys
for package in {packages!r}:
    sys.modules[package] = None
from agent.cli import main
main({arguments!r})
"""


def run_without(extra: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process where the packages of `extra` cannot be imported."""
    script = WITHOUT.format(packages=EXTRAS[extra], arguments=arguments)
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_what_is_installed_is_let_through() -> None:
    require("local", "this runs here")
    require("data", "this reads a table", "pyarrow")


def test_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # what Python itself does for a package that may not be imported
    with pytest.raises(MissingExtra, match=r"this runs here, .* extra local: pip install -e '\.\[local\]'$"):
        require("local", "this runs here")
    require("local", "this runs here", "numpy")


def test_the_net_under_it_maps_imports_that_fail() -> None:
    with pytest.raises(MissingExtra, match="extra ray"), mapping_missing():
        raise ModuleNotFoundError("No module named 'ray.data'", name="ray.data")
    with pytest.raises(ModuleNotFoundError), mapping_missing():
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("local", ["draw", "a red star"]),
        ("local", ["judge", "docs/images/draw.png", "a red star"]),
        ("local", ["enhance", "README.md", "out.jsonl", "--field", "prompt"]),
        ("serve", ["serve"]),
        ("serve", ["serve", "--mcp"]),
        ("data", ["enhance", "someone/nosuch", "out.jsonl"]),
    ],
)
def test_a_command_without_its_extra_ends_with_the_sentence_and_2(
    extra: str, arguments: list[str], tmp_path: Path
) -> None:
    if arguments[0] == "enhance" and arguments[1] == "README.md":
        source = tmp_path / "requests.txt"
        source.write_text("a red star\n")
        arguments = ["enhance", str(source), str(tmp_path / "out.jsonl")]
    done = run_without(extra, *arguments)
    assert done.returncode == 2, done.stderr
    assert f"needs the extra {extra}" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("script", ["rewriter.train.sft", "rewriter.train.grpo", "evaluator.train.__main__"])
def test_a_training_script_without_its_extra_ends_with_the_sentence_and_2(script: str) -> None:
    packages = [*EXTRAS["local"], *EXTRAS["train"]]
    start = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r})); from {script} import main; sys.exit(main([]))"
    )
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "needs the extra" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_talks_to_servers_needs_no_extra() -> None:
    """Nothing that the base install is for imports a package of an extra. scripts/ci_wheel.sh does it for real."""
    packages = [package for packages in EXTRAS.values() for package in packages]
    modules = [
        "agent.cli",
        "agent.commands",
        "agent.api",
        "agent.enhance_command",
        "agent.chat.terminal",
        "rewriter.api",
    ]
    modules += ["editors.openai_images", "evaluator.server_judge", "eval_suites.command", "rewriter.train.teach"]
    start = f"import sys; sys.modules.update(dict.fromkeys({packages!r})); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_extra_of_the_project_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) <= set(project["optional-dependencies"])
    base = " ".join(project["dependencies"])
    assert not [package for packages in EXTRAS.values() for package in packages if package in base]


@pytest.mark.parametrize("module", ["mini.rewriter.train", "mini.editor.pools"])
def test_scripts_that_import_an_extra_at_their_top_say_so(module: str, tmp_path: Path) -> None:
    blocked = f"import sys\nfor package in {EXTRAS['local']!r}:\n    sys.modules[package] = None\n"
    (tmp_path / "sitecustomize.py").write_text(blocked)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "extra local" in done.stderr
    assert done.stderr.count("\n") == 1


def test_eval_without_the_extra_is_one_sentence() -> None:
    done = run_without("local", "eval", "cutouts")
    assert (done.returncode, done.stdout) == (2, "")
    assert "extra local" in done.stderr
    assert "Traceback" not in done.stderr
