"""The journal of an evaluation: what it has already paid for, in a folder that one process at a time may use.

    OUT/state/journal.jsonl   what the run is (suite, data and their hashes, profile, conditions), and every finished
                              piece of work, keyed by (kind, question)
    OUT/state/images/         pictures by the hash of their bytes

A killed run goes on from there. Pieces are keyed by content, so equal prompts, pictures and questions are paid for
once, whatever item or condition asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redraft.errors import InputError
from redraft.journal import Journal, OtherJournal


def open_journal(out: Path, settings: Mapping[str, Any]) -> Journal:
    """The journal in the folder `out`, begun with `settings` or gone on with under the same ones.

    Raises Occupied if another process uses the folder, InputError if it was begun with other settings (a changed data
    file among them), or if it cannot be written.
    """
    try:
        return Journal(out / "state" / "journal.jsonl", "evaluation", about=settings, advice="choose another --out")
    except OtherJournal as error:
        files = [name.removeprefix("data.") for name in error.changed if name.startswith("data.")]
        if not files:
            raise
        raise InputError(
            f"{', '.join(files)} changed since the run in {out} began; choose another --out, or put back what it was "
            "begun with"
        ) from None
