"""The docs name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"])
PACKAGES = [
    "redraft",
    "rewriter",
    "editors",
    "evaluator",
    "agent",
    "eval_suites",
    "mini",
    "tests",
    "scripts",
    "benchmarks",
]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"`((?:" + "|".join(PACKAGES) + r")/[\w./*-]+)`", text)
    assert not [name for name in names if "xx" not in name and not list(ROOT.glob(name.rstrip("/")))]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_pages_that_a_page_links_to_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_modules_that_a_page_runs_are_there(page: Path) -> None:
    modules = re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8"))
    own = [module.rstrip(".") for module in modules if module.split(".")[0] in PACKAGES]
    paths = [ROOT.joinpath(*module.split(".")) for module in own]
    assert not [
        str(path) for path in paths if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file())
    ]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    assert not [name for file, name in names if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
