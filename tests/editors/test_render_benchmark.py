"""The benchmark of batched drawing runs, on a model folder and on none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "benchmarks" / "render_batch.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_compares_both_ways(tiny: Callable[[str], Path]) -> None:
    options = ["--images", "4", "--batch", "4", "--steps", "1", "--size", "32", "--repeats", "1"]
    done = run("--model", str(tiny("zimage")), *options)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "4 pictures of 32 x 32 pixels" in lines[0]
    batched, single = (float(line.split()[-6]) for line in lines[1:3])
    ratio = float(lines[3].split()[1])
    assert abs(ratio - single / batched) < 0.05 * ratio
    assert int(lines[4].rpartition(": ")[2].split()[0]) <= 2


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    done = run("--model", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.startswith("render_batch: ")
    assert "nowhere" in done.stderr
