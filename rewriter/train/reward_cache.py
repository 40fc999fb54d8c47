"""What pictures have scored before, so that a resumed training, or the next one, draws and judges nothing twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.types import Checklist
from redraft.errors import InputError

_WAIT_S = 30.0


@dataclass(frozen=True)
class Judged:
    """A picture's score in [0, 1], and in (0, 1] how well the passes of the judge agreed."""

    score: float
    certainty: float = 1.0


def cache_key(prompt: str, rewrite: str, seed: int, names: Sequence[str], checklist: Checklist) -> str:
    """The sha256, in hex, of all that a score depends on. `names`: generator, judge, and settings of theirs.

    Models count by their names: after training new weights into the same folder, start a new cache.
    """
    checks = [[check.key_point, check.question] for check in checklist]
    told = json.dumps([prompt, rewrite, seed, list(names), checks])  # ASCII, so that any string can be hashed
    return hashlib.sha256(told.encode()).hexdigest()


class RewardCache:
    """Scores by `cache_key`, in an SQLite file that several processes may share, or in memory without a path.

    Only scores are kept: what failed is tried again. Raises InputError where the file cannot be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            # TRL awaits rewards in a thread of its own, not in the one that makes the cache.
            self._db = sqlite3.connect(
                path or ":memory:", timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS judged (key TEXT PRIMARY KEY, score REAL NOT NULL, certainty REAL NOT NULL)"
            )
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def get(self, key: str) -> Judged | None:
        """What is kept under `key`; None where nothing is."""
        try:
            row = self._db.execute("SELECT score, certainty FROM judged WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return None if row is None else Judged(float(row[0]), float(row[1]))

    def put(self, key: str, judged: Judged) -> None:
        """Keeps `judged` under `key`."""
        try:
            self._db.execute("INSERT OR REPLACE INTO judged VALUES (?, ?, ?)", (key, judged.score, judged.certainty))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        self._db.close()

    def _unusable(self, error: Exception) -> InputError:
        return InputError(f"cannot use the reward cache {self._path}: {error}; delete it, or name another file")
