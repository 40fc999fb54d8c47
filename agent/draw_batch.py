"""`redraft draw --prompts FILE`: a file of requests to pictures, by the machinery of `redraft enhance`.

    OUT/pictures.jsonl            a row for each row of the file: its columns, request, prompt, status, image, score, ...
    OUT/pictures/3f/3f09….png     the picture of each request, with its provenance in its text chunks
    OUT/work/                     what is finished (`rewriter.batch.work`)

Each request is rewritten once, drawn `images` times from that prompt, and judged if the profile has a judge; the best
picture is kept. It does not go round as `redraft draw` does. The command may be killed at any moment and picks up what is
finished; shares (`--shard i/n`) write files of their own, and may have one OUT.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TextIO

from PIL import Image

from agent.decide import acceptable
from agent.enhance_command import BatchView, report_failures, run_resumably
from agent.enhance_judge import PictureRanker, judging_settings, open_ranker
from agent.terminal import escape, open_console, stdout_for_results, write_json
from editors.backend import ImageBackend, ImageTask, open_backend, render
from redraft import __version__
from redraft.errors import InputError
from redraft.images import save_png
from redraft.limits import option_name
from redraft.options import DrawOptions
from redraft.profiles import BackendConfig, Profile, load_profile
from redraft.scope import open_scope
from redraft.worker import GATHER_S, Worker
from rewriter.batch.maker import Kit, Maker, open_kit
from rewriter.batch.run import BatchPlan, Counts, RecordMaker, rejects_path, run_batch
from rewriter.batch.tables import InputTable, open_source
from rewriter.batch.work import WHOLE, Record, Shard, Status, WorkFolder
from rewriter.cot import infer_target

MOST_IMAGES = 64


@dataclass(frozen=True)
class DrawBatchOptions:
    """The options of the command line. `images`: pictures of a request, of which the best is kept. `seed`: what the seeds of
    all requests follow from; None: it is random, and kept in OUT so that the same command goes on."""

    prompts: str
    out: Path
    profile: str = "mini"
    field: str | None = None
    shard: str | None = None
    images: int = 1
    seed: int | None = 0
    size: str | None = None
    as_json: bool = False


def draw_batch(options: DrawBatchOptions) -> None:
    """Runs the command. Raises RedraftError, or typer.Exit: 130 if it is interrupted, 3 if rows failed."""
    if not 1 <= options.images <= MOST_IMAGES:
        raise InputError(f"--images {options.images}: with --prompts, 1 to {MOST_IMAGES} pictures of each request")
    source = open_source(options.prompts, options.field)
    shard = WHOLE if options.shard is None else Shard.parse(options.shard)
    profile = load_profile(options.profile)
    size = profile.pixels(DrawOptions.read({"size": options.size}))
    drawing = profile.need_generator()
    if options.images > 1 and profile.judge is None:
        raise InputError(f"--images {options.images}: the profile {profile.name!r} has no [judge] that could pick one")
    seed = keep_random_seed(options.out / "work") if options.seed is None else options.seed
    out = options.out / ("pictures.jsonl" if shard == WHOLE else f"pictures-{shard}.jsonl")
    with stdout_for_results() as stdout:
        kit = open_kit(profile.rewriter, target=infer_target(profile.rewriter, drawing), scope=open_scope(profile))
        painter = open_painter(drawing)
        judging = None if profile.judge is None else open_ranker(profile, kit.engine)
        columns = ("request", "prompt", "negative_prompt", "status", "findings", "model", "seed", "image", "score")
        plan = BatchPlan(
            settings={
                **kit.settings,
                **judging_settings(profile),
                "rewrite": profile.search.rewrite,
                "images": options.images,
                "size": size,
            },
            own=(*columns, "accepted", "unchecked") if judging else columns,
            seed=seed,
            shard=shard,
            phase="drawing",
        )
        rewrite: RecordMaker = Maker(kit.rewriter, plan.keys, scope=kit.scope)
        maker = PictureMaker(
            rewrite if profile.search.rewrite else as_it_is(plan),
            painter,
            options.out,
            ranker=judging,
            images=options.images,
            size=size,
            generator=drawing.model,
        )
        counts = _draw(options, source, plan, out=out, maker=maker, kit=kit, painter=painter)
        _report(options, counts, out=out, profile=profile, seed=seed, stdout=stdout)
    report_failures(counts)


def keep_random_seed(folder: Path) -> int:
    """A random seed, kept in `folder`: the one that is there already if another process, or an earlier run, has drawn it.
    Raises InputError."""
    path = folder / "random-seed"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole = folder / f"{path.name}-{secrets.token_hex(4)}"
        whole.write_text(f"{secrets.randbelow(2**31)}\n", "ascii")
        with contextlib.suppress(FileExistsError):
            os.link(whole, path)  # there as a whole, or not at all
        whole.unlink()
        return int(path.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot keep a seed in {path}: {error}; mend that, delete it, or give --seed") from error


class Painter(Protocol):
    """Draws pictures for many callers at once. `slots`: how many it draws at the same time."""

    @property
    def slots(self) -> int: ...

    async def __call__(self, tasks: Sequence[ImageTask]) -> list[Image.Image]: ...

    async def aclose(self) -> None: ...


class LocalPainter:
    """A backend of this process, in one thread: what waits at the same moment, up to `slots` pictures, is one batch."""

    def __init__(self, backend: ImageBackend, slots: int) -> None:
        self.slots = slots
        self._backend = backend
        self._worker: Worker[Sequence[ImageTask], list[Image.Image]] = Worker(
            "images",
            lambda jobs: self._paint([job.request for job in jobs]),
            size=slots,
            gather_s=GATHER_S,
            retry_alone=lambda error: True,
            interrupt=backend.interrupt,
        )

    async def __call__(self, tasks: Sequence[ImageTask]) -> list[Image.Image]:
        return await self._worker.ask(tasks, weight=len(tasks))

    def _paint(self, wanted: Sequence[Sequence[ImageTask]]) -> list[list[Image.Image]]:
        pictures = iter(render(self._backend, [task for tasks in wanted for task in tasks]))
        return [[next(pictures) for _ in tasks] for tasks in wanted]

    async def aclose(self) -> None:
        await self._worker.aclose()
        self._backend.close()


class ServedPainter:
    """Image servers: as many pictures at once as they take, each on its own."""

    def __init__(self, backend: ImageBackend, slots: int) -> None:
        self.slots = slots
        self._backend = backend
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="redraft-images")

    async def __call__(self, tasks: Sequence[ImageTask]) -> list[Image.Image]:
        loop = asyncio.get_running_loop()
        drawn = (loop.run_in_executor(self._threads, render, self._backend, [task]) for task in tasks)
        return [picture for [picture] in await asyncio.gather(*drawn)]

    async def aclose(self) -> None:
        self._backend.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_painter(config: BackendConfig) -> Painter:
    """The generator of a profile for many callers. Raises ConfigError and ModelMissing as `open_backend` does."""
    backend = open_backend(config)
    if config.server is not None:
        return ServedPainter(backend, config.server.slots)
    return LocalPainter(backend, config.at_once)


class PictureMaker:
    """Makes the record of a request: the rewrite's, and the picture that it names. The picture is on the disk before the
    record is, under a name that follows from the request and the settings, so that a kill between the two leaves nothing
    behind but a file that is written again.

    Raises BackendError if a model or server failed.
    """

    def __init__(
        self,
        rewrite: RecordMaker,
        painter: Painter,
        folder: Path,
        *,
        ranker: PictureRanker | None = None,
        images: int = 1,
        size: tuple[int, int] | None = None,
        generator: str = "",
    ) -> None:
        self._rewrite = rewrite
        self._painter = painter
        self._folder = folder
        self._ranker = ranker
        self._images = images
        self._size = size
        self._generator = generator

    async def __call__(self, request: str, key: bytes) -> Record:
        record = await self._rewrite(request, key)
        tasks = [
            ImageTask(record.prompt, record.seed + at, size=self._size, negative_prompt=record.negative_prompt)
            for at in range(self._images)
        ]
        pictures = await self._painter(tasks)
        best = 0
        if self._ranker is not None:
            ranked = await self._ranker(request, pictures, tasks)
            best, report = ranked.best, ranked.reports[ranked.best]
            record = replace(
                record,
                score=report.score,
                accepted=acceptable(report, self._ranker.limits),
                unchecked=report.unchecked,
            )
        name = f"pictures/{key.hex()[:2]}/{key.hex()}.png"
        record = replace(record, image=name, seed=tasks[best].seed)
        await asyncio.to_thread(save_png, pictures[best], self._folder / name, self._provenance(request, record))
        return record

    def _provenance(self, request: str, record: Record) -> dict[str, str]:
        return {
            "Software": f"redraft {__version__}",
            "request": request,
            "prompt": record.prompt,
            "seed": str(record.seed),
            "generator": self._generator,
            "score": "" if record.score is None else f"{record.score:.4f}",
        }


def as_it_is(plan: BatchPlan) -> RecordMaker:
    """For profiles with `search.rewrite = false`: the request is the prompt."""

    async def keep(request: str, key: bytes) -> Record:
        return Record(status=Status.KEPT, prompt=request, seed=plan.keys.seed(key))

    return keep


def _draw(
    options: DrawBatchOptions,
    source: InputTable,
    plan: BatchPlan,
    *,
    out: Path,
    maker: PictureMaker,
    kit: Kit,
    painter: Painter,
) -> Counts:
    async def work(opened: WorkFolder, view: BatchView) -> Counts:
        try:
            # Three times what is drawn at once: the others are being rewritten, and judged.
            window = min(kit.engine.window, 8 + 3 * -(-painter.slots // options.images))
            return await run_batch(source, out, opened, plan, maker, window=window, notify=view)
        finally:
            await painter.aclose()
            await kit.aclose()

    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {options.out}: {error.strerror or error}") from error
    return run_resumably(source, options.out / "work", plan.shard, work)


def _report(
    options: DrawBatchOptions, counts: Counts, *, out: Path, profile: Profile, seed: int, stdout: TextIO
) -> None:
    value: dict[str, Any] = {
        "out": str(out),
        "rows": counts.rows,
        **{status.value: counts.statuses[status] for status in Status},
        "rejected": counts.rejects,
        "rejects": str(rejects_path(out)) if counts.rejects else None,
        "reused": counts.reused,
        "requests": counts.requests,
        "images": (counts.requests - counts.made[Status.FAILED]) * options.images,
        "seconds": round(counts.seconds, 3),
        "profile": profile.name,
        "seed": seed,
    }
    if options.as_json:
        write_json(value, stdout)
        return
    console = open_console(stdout)
    drawn = counts.rows - counts.statuses[Status.FAILED]
    console.print(f"{counts.rows:,} rows in {counts.seconds:.1f} s: {drawn:,} with a picture", soft_wrap=True)
    if counts.reused:
        console.print(f"of these, {counts.reused:,} were drawn before")
    console.print(f"rows      {escape(str(out))}", soft_wrap=True)
    console.print(f"pictures  {escape(str(options.out / 'pictures'))}", soft_wrap=True)
    if counts.rejects:
        console.print(f"rejects   {escape(str(rejects_path(out)))} ({counts.rejects:,} rows)", soft_wrap=True)


def require_only_images(changes: Mapping[str, object]) -> int:
    """The number of pictures of each request, from the options that the user set. Raises InputError for others than these,
    size and seed: a batch does not go round."""
    others = [option_name(name) for name in changes if name not in ("max_images", "seed", "size")]
    if others:
        raise InputError(
            f"{others[0]} is an option of a run that goes round; with --prompts each request is rewritten once, and drawn "
            "--images times: leave it out"
        )
    images = changes.get("max_images", 1)
    assert isinstance(images, int)
    return images
