"""The runs of clients, in conversations and outside: their records and traces, by their ids."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from agent.events import Event, ImageDrawn
from agent.run import Run, RunResult
from agent.runfolder import RunFolder
from agent.serve.database import Database
from agent.serve.errors import NotFound, TooMany
from agent.serve.metrics import log
from redraft.images import ImageStore
from redraft.options import DrawOptions
from rewriter.request import clean_request

if TYPE_CHECKING:
    from agent.serve.service import Service


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
        """run.json. Raises NotFound, InputError if it is damaged."""
        return await asyncio.to_thread(RunFolder(await self.folder(client, run)).read_record)

    async def trace(self, client: str, run: str) -> Path:
        """The trace of a run as one HTML page. Raises NotFound, also while the run is not finished."""
        page = await self.folder(client, run) / "trace.html"
        if not page.is_file():
            raise NotFound(f"the run {run!r} is not finished")
        return page

    @staticmethod
    def trace_url(run: str) -> str:
        return f"/api/runs/{run}/trace"

    async def note(self, client: str, run: str, conversation: str | None, folder: Path) -> None:
        """Makes a run known by its id."""
        await self._database.add_run(run, client, conversation, str(folder.relative_to(self._data)))


_LAST_S = 5.0
"""For a drawing to end once it was cancelled."""


class Drawings:
    """Its length is how many are under way."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bounds = service.bounds
        self._begun: Counter[str] = Counter()
        self._drawn: set[Run] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._drawn)

    def begun(self, client: str) -> int:
        """How many drawings of a client are under way."""
        return self._begun[client]

    async def finish(self, seconds: float) -> None:
        """Waits until all are done, at most so long; what is left then ends with the best picture so far."""
        for wait_s in (seconds, _LAST_S):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), wait_s)
            for run in self._drawn:
                run.cancel()

    async def draw(
        self,
        client: str,
        request: str,
        *,
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        profile: str | None = None,
        references: Sequence[Image.Image] = (),
        options: DrawOptions | None = None,
    ) -> AsyncGenerator[Event | RunResult]:
        """Draws a request, or edits `image` as it says, inside `mask` if there is one (white = change), by `references` if
        there are some. Gives the run's events, and its RunResult as the last. Raises RedraftError before the first."""
        options = options or DrawOptions()
        request = clean_request(request, self._bounds.max_prompt, "request" if image is None else "instruction")
        service = self._service
        service.require_open()
        served, run_limits = service.served(profile), service.limits(profile, options)
        if self._begun[client] >= self._bounds.max_turns:
            raise TooMany(f"{self._bounds.max_turns} of your drawings are under way, which is the most")
        self._begun[client] += 1
        run: Run | None = None
        try:
            run = await asyncio.to_thread(
                Run.start, request, served.for_run(client), limits=run_limits, out=service.files.draws(client),
                profile=served.profile, options=options, source=image, mask=mask, references=references,
            )  # fmt: skip
            self._drawn.add(run)
            self._idle.clear()
            folder = run.folder
            await service.runs.note(client, folder.path.name, None, folder.path)
            store, meter = service.files.store(client), service.metrics.run()
            async with aclosing(run.stream()) as events:
                async for event in events:
                    meter.see(event)
                    if isinstance(event, ImageDrawn):
                        async with service.files.shelf(client):
                            await asyncio.to_thread(store.adopt, event.image, ImageStore(folder.images))
                    yield event
            result = run.result
            assert result is not None
            log(
                "drawn", client=client, run=folder.path.name, stop=result.stop.value, images=len(result.attempts),
                seconds=round(result.elapsed_s, 3),
            )  # fmt: skip
            yield result
        finally:
            self._begun[client] -= 1
            if run is not None:
                self._drawn.discard(run)
            if not self._drawn:
                self._idle.set()
