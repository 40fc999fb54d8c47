"""The models of a profile, opened once and shared by all runs of a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from agent.models import CallLimit, Models, open_models
from agent.serve.events import client_limits
from agent.serve.metrics import Metrics
from agent.serve.queue import RenderQueue
from agent.serve.wire import ProfileInfo
from editors.backend import ImageBackend
from redraft.chat import ChatModel, ChatReply, ChatRequest, open_chat
from redraft.limits import Limits
from redraft.profiles import Profile
from redraft.scope import Scope, open_scope
from rewriter.cot import CoTRewriter
from rewriter.types import Rewriter

_THREADS = 64
"""Runs that draw, or wait to, at once. They wait in threads; local models have one worker each all the same."""
_CALLS = 256


@dataclass(frozen=True)
class Metered:
    """A chat model whose tokens are counted."""

    model: ChatModel
    metrics: Metrics

    @property
    def name(self) -> str:
        return self.model.name

    async def __call__(self, request: ChatRequest) -> ChatReply:
        with self.metrics.call(self.name):
            reply = await self.model(request)
        self.metrics.tokens(self.name, reply.usage)
        return reply

    async def aclose(self) -> None:
        await self.model.aclose()


@dataclass(frozen=True)
class ServedRewriter:
    """A profile that only rewrites: clients may have it enhance a request, and nothing else."""

    profile: Profile
    rewriter: Rewriter
    calls: CallLimit
    scope: Scope | None = None

    @classmethod
    def open(cls, profile: Profile, metrics: Metrics) -> ServedRewriter:
        """Raises ConfigError, and ModelMissing if its weights are not in their place."""
        config = profile.rewriter
        chat = Metered(open_chat(config.model), metrics)
        most = _CALLS if config.model.server is None else config.model.server.slots
        return cls(profile, CoTRewriter(chat, config), CallLimit(most), open_scope(profile))

    def info(self) -> ProfileInfo:
        profile = self.profile
        return ProfileInfo(
            name=profile.name,
            description=profile.description,
            can_edit=False,
            limits=client_limits(profile.limits),
        )


@dataclass(frozen=True)
class Served:
    """A profile and its models. Local image models draw by way of a queue; those on servers draw several runs at once,
    as many as their `concurrency`."""

    name: str
    profile: Profile | None
    models: Models
    limits: Limits
    drawing: RenderQueue | None
    editing: RenderQueue | None

    @classmethod
    def open(cls, profile: Profile, metrics: Metrics) -> Served:
        """Raises ConfigError and ModelMissing as `open_models` does."""
        return cls.of(
            profile.name,
            open_models(profile, lambda config: Metered(open_chat(config), metrics)),
            profile.limits,
            metrics,
            profile=profile,
            local=(
                profile.need_generator().kind == "diffusers",
                profile.editor is not None and profile.editor.kind == "diffusers",
            ),
        )

    @classmethod
    def of(
        cls,
        name: str,
        models: Models,
        limits: Limits,
        metrics: Metrics,
        *,
        profile: Profile | None = None,
        local: tuple[bool, bool] = (True, True),
    ) -> Served:
        """`local`: whether generator and editor are models of this process."""
        served = (
            [] if profile is None else [profile.rewriter.model, profile.checklist.model, profile.need_judge().model]
        )
        if all(model is None or model.server is None for model in served):
            # Models of this process answer many calls in one batch, and take no more than they can by themselves.
            models = replace(models, calls=CallLimit(_CALLS))
        server = None if profile is None else profile.need_generator().server
        threads = _THREADS if local[0] or server is None else server.slots
        models = replace(models, renderer=ThreadPoolExecutor(threads, thread_name_prefix="redraft-render"))
        size = models.batch_size
        editor = None if models.editing is None else models.editing.editor
        drawing = RenderQueue(models.generator, size, metrics) if local[0] else None
        editing = drawing
        if editor is not None and editor is not models.generator:
            editing = RenderQueue(editor, size, metrics) if local[1] else None
        return cls(name, profile, models, limits, drawing, editing)

    def for_run(self, client: str, queued: Callable[[int], None] | None = None) -> Models:
        """The models as one run sees them. `queued` gets, from another thread, how many pictures come before."""
        generator: ImageBackend = self.models.generator
        editing = self.models.editing
        if self.drawing is not None:
            generator = self.drawing.handle(client, queued)
        if self.editing is not None and editing is not None:
            editing = replace(editing, editor=self.editing.handle(client, queued))
        return replace(self.models, generator=generator, editing=editing)

    @property
    def can_edit(self) -> bool:
        return self.models.editing is not None

    def info(self) -> ProfileInfo:
        description = "" if self.profile is None else self.profile.description
        return ProfileInfo(
            name=self.name, description=description, can_edit=self.can_edit, limits=client_limits(self.limits)
        )

    async def warm(self) -> None:
        """Loads the models of this process, so that the first to ask does not wait. Raises BackendError."""
        editor = None if self.models.editing is None else self.models.editing.editor
        for backend, queue in ((self.models.generator, self.drawing), (editor, self.editing)):
            load = getattr(backend, "load", None)
            if queue is not None and load is not None:
                await asyncio.to_thread(load)
        load = getattr(self.models.judge, "load", None)
        if load is not None:
            await load()
        if self.profile is not None and self.profile.rewriter.model.kind == "transformers":
            await self.models.rewriter("a circle", n=1)

    def waiting(self) -> int:
        """Pictures that wait for the workers."""
        return sum(queue.waiting() for queue in {self.drawing, self.editing} if queue is not None)

    def close(self) -> None:
        for queue in {self.drawing, self.editing}:
            if queue is not None:
                queue.close()
        self.models.close()
