"""The runs of clients, in sessions and outside: their records and their stories, found by their ids."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from agent.serve.database import Database
from agent.serve.errors import NotFound


class Runs:
    """`data`: the folder of the server, below which the folders of all runs are."""

    def __init__(self, database: Database, data: Path) -> None:
        self._database = database
        self._data = data

    async def folder(self, client: str, run: str) -> Path:
        """Raises NotFound."""
        folder = await self._database.run_folder(client, run)
        if folder is None or not (self._data / folder / "run.json").is_file():
            raise NotFound(f"there is no run {run!r}")
        return self._data / folder

    async def record(self, client: str, run: str) -> dict[str, Any]:
        folder = await self.folder(client, run)
        record: dict[str, Any] = json.loads(await asyncio.to_thread((folder / "run.json").read_text, "utf-8"))
        return record

    async def trace(self, client: str, run: str) -> Path:
        """The story of a run as one HTML page. Raises NotFound, also while the run is not finished."""
        page = await self.folder(client, run) / "trace.html"
        if not page.is_file():
            raise NotFound(f"the run {run!r} is not finished")
        return page

    @staticmethod
    def trace_url(run: str) -> str:
        return f"/api/runs/{run}/trace"

    async def note(self, client: str, run: str, session: str | None, folder: Path) -> None:
        """Has a run found by its id."""
        await self._database.add_run(run, client, session, str(folder.relative_to(self._data)))
