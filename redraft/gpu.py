"""The memory of one GPU: what a profile's models take of it by sums, and a lease under which models that do not fit beside
one another take turns.

    lease = GpuLease([judge_server, generator], have_gb=24.0)
    with lease.use("generator"):      # parks the judge's server first if both do not fit, and once its calls have ended
        draw()

Parties wake and park. Those that fit together stay awake; a party is parked only when none of its calls is under way, so that no
request is killed; and it may go on for `stay_s` seconds while others wait, so that models are not moved back and forth for each
call. `close` wakes the servers again, and opening a lease wakes what a killed process left asleep.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from redraft.errors import BackendError, ConfigError, one_line

if TYPE_CHECKING:
    from redraft.profiles import GpuServerConfig, Profile

log = logging.getLogger(__name__)

CONTEXT_GB = 0.6
"""What each process takes of a GPU before it holds any weights: CUDA's context and its kernels. An estimate."""


class Party(Protocol):
    """Something that takes memory of the GPU: `gb` when it is awake, `parked_gb` when it is parked. `outlives`: whether it is
    there when this process has ended, so that it must be left awake. Both calls block, and do nothing if it is so already;
    they raise BackendError."""

    @property
    def name(self) -> str: ...

    @property
    def gb(self) -> float: ...

    @property
    def parked_gb(self) -> float: ...

    @property
    def outlives(self) -> bool: ...

    def wake(self) -> None: ...

    def park(self) -> None: ...


# What is to be moved, without threads and without moving anything


@dataclass(frozen=True)
class Switch:
    """Parties to park, and then the one to wake."""

    park: tuple[str, ...]
    wake: str


@dataclass
class _State:
    gb: float
    parked_gb: float
    awake: bool = True
    active: int = 0
    since: float = 0.0
    """When it was woken."""
    used: float = 0.0
    waiting: deque[float] = field(default_factory=deque)
    """When the calls came that wait for it."""


class SwapPlan:
    """Which party is awake, who may enter and when to switch. No clock, no threads: times are handed in."""

    def __init__(self, sizes: Mapping[str, tuple[float, float]], have_gb: float, *, stay_s: float) -> None:
        """`sizes`: (awake, parked) in GB of each party. Raises ConfigError if one does not fit even alone."""
        parked = sum(small for _, small in sizes.values())
        for name, (gb, small) in sizes.items():
            if gb + parked - small > have_gb:
                raise ConfigError(
                    f"[gpu]: {name} takes {gb:.1f} GB, and the parked others {parked - small:.1f} GB: "
                    f"{gb + parked - small:.1f} GB, and the GPU has {have_gb:.1f} GB; take a smaller model or quantization"
                )
        self._have = have_gb
        self._stay = stay_s
        self._parties = {name: _State(gb, small) for name, (gb, small) in sizes.items()}
        self._moving = False
        # At first those are awake that fit, in the order in which they are given.
        for name in reversed(list(sizes)):
            if self.taken() > have_gb:
                self._parties[name].awake = False

    def taken(self) -> float:
        """GB that are taken now."""
        return sum(party.gb if party.awake else party.parked_gb for party in self._parties.values())

    def is_awake(self, name: str) -> bool:
        return self._parties[name].awake

    def enter(self, name: str, now: float) -> bool:
        """Whether a call may begin; if not, it waits: `admit` says when it may."""
        party = self._parties[name]
        if party.awake and not self._moving and not party.waiting and not self._is_draining(name, now):
            party.active += 1
            party.used = now
            return True
        party.waiting.append(now)
        return False

    def leave(self, name: str, now: float) -> None:
        party = self._parties[name]
        party.active -= 1
        party.used = now

    def admit(self, now: float) -> dict[str, int]:
        """How many of those that wait for each party may begin now; they count as begun."""
        admitted = {}
        if not self._moving:
            for name, party in self._parties.items():
                if party.awake and party.waiting and not self._is_draining(name, now):
                    admitted[name] = len(party.waiting)
                    party.active += len(party.waiting)
                    party.used = now
                    party.waiting.clear()
        return admitted

    def give_up(self, name: str) -> None:
        """One that waited does not wait any more."""
        if self._parties[name].waiting:
            self._parties[name].waiting.pop()

    def switch(self, now: float) -> Switch | None:
        """What is to be moved now. `moved` must follow."""
        if self._moving or (wanted := self._wanted()) is None:
            return None
        victims = self._victims(wanted)
        if any(self._parties[name].active for name in victims):
            return None
        if any(self._parties[name].waiting for name in victims) and not self._is_due(wanted, victims, now):
            return None
        self._moving = True
        return Switch(victims, wanted)

    def moved(self, switch: Switch, now: float) -> None:
        for name in switch.park:
            self._parties[name].awake = False
        party = self._parties[switch.wake]
        party.awake, party.since = True, now
        self._moving = False

    def not_moved(self) -> None:
        """A switch failed."""
        self._moving = False

    def next_look(self, now: float) -> float | None:
        """Seconds until time alone changes something; None if only calls do."""
        wanted = None if self._moving else self._wanted()
        if wanted is None:
            return None
        victims = self._victims(wanted)
        due = max((self._parties[name].since for name in victims), default=now) + self._stay
        due = max(due, self._parties[wanted].waiting[0] + self._stay)
        return max(0.0, due - now) if due > now else None

    def _wanted(self) -> str | None:
        """The parked party whose first call has waited longest."""
        asleep = [
            (party.waiting[0], name) for name, party in self._parties.items() if not party.awake and party.waiting
        ]
        return min(asleep)[1] if asleep else None

    def _victims(self, wanted: str) -> tuple[str, ...]:
        """Who has to be parked for it: as few as need be, the ones longest unused first."""
        party = self._parties[wanted]
        missing = self.taken() - party.parked_gb + party.gb - self._have
        victims: list[str] = []
        awake = [(other.active > 0, other.used, name) for name, other in self._parties.items() if other.awake]
        for _, _, name in sorted(awake):
            if missing <= 1e-9:
                break
            victims.append(name)
            missing -= self._parties[name].gb - self._parties[name].parked_gb
        return tuple(victims)

    def _is_due(self, wanted: str, victims: Sequence[str], now: float) -> bool:
        """Whether the others have had their time, and none of their calls waits for longer than its."""
        first = self._parties[wanted].waiting[0]
        if now - first < self._stay:
            return False
        parties = [self._parties[name] for name in victims]
        return all(
            now - party.since >= self._stay and not (party.waiting and party.waiting[0] <= first) for party in parties
        )

    def _is_draining(self, name: str, now: float) -> bool:
        """Whether it takes no new calls, since it is to be parked."""
        wanted = self._wanted()
        if wanted is None:
            return False
        victims = self._victims(wanted)
        return name in victims and self._is_due(wanted, victims, now)


class GpuLease:
    """Parties that take turns on one GPU. Safe to use from several threads and event loops."""

    def __init__(
        self,
        parties: Sequence[Party],
        have_gb: float,
        *,
        stay_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Brings the parties into the plan's first state. Raises ConfigError if one does not fit, BackendError if one can
        neither wake nor park."""
        self._parties = {party.name: party for party in parties}
        self._plan = SwapPlan({party.name: (party.gb, party.parked_gb) for party in parties}, have_gb, stay_s=stay_s)
        self._have = have_gb
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Future[None]]] = {name: deque() for name in self._parties}
        self._open = True
        self.switches = 0
        # Parked first: a killed process may have left the others awake.
        for name in sorted(self._parties, key=self._plan.is_awake):
            (self._parties[name].wake if self._plan.is_awake(name) else self._parties[name].park)()
        self._thread = threading.Thread(target=self._run, name="redraft-gpu", daemon=True)
        self._thread.start()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parties)

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Waits until the party is awake, and keeps it so. For threads."""
        future = self._request(name)
        try:
            future.result()
        except BaseException:
            self._withdraw(name, future)
            raise
        try:
            yield
        finally:
            self._release(name)

    @asynccontextmanager
    async def use_async(self, name: str) -> AsyncIterator[None]:
        """`use` for an event loop."""
        future = self._request(name)
        try:
            await asyncio.shield(asyncio.wrap_future(future))
        except BaseException:
            self._withdraw(name, future)
            raise
        try:
            yield
        finally:
            self._release(name)

    def close(self) -> None:
        """Parks what is in this process, and wakes as many servers as fit without it. Calls that wait fail."""
        with self._changed:
            if not self._open:
                return
            self._open = False
            self._fail_all(BackendError("the GPU's lease is closed"))
            self._changed.notify_all()
        self._thread.join()
        for party in self._parties.values():
            if not party.outlives:
                _try(party.park)
        staying = [party for party in self._parties.values() if party.outlives]
        taken = sum(party.gb if self._plan.is_awake(party.name) else party.parked_gb for party in staying)
        for party in staying:
            if not self._plan.is_awake(party.name) and taken + party.gb - party.parked_gb <= self._have:
                taken += party.gb - party.parked_gb
                _try(party.wake)

    def _request(self, name: str) -> Future[None]:
        future: Future[None] = Future()
        with self._changed:
            if not self._open:
                raise BackendError("the GPU's lease is closed")
            if self._plan.enter(name, self._clock()):
                future.set_result(None)
            else:
                self._waiting[name].append(future)
                self._changed.notify_all()
        return future

    def _release(self, name: str) -> None:
        with self._changed:
            self._plan.leave(name, self._clock())
            self._changed.notify_all()

    def _withdraw(self, name: str, future: Future[None]) -> None:
        """The caller does not wait any more."""
        with self._changed:
            if future in self._waiting[name]:
                self._waiting[name].remove(future)
                self._plan.give_up(name)
            elif future.done() and future.exception() is None:
                self._plan.leave(name, self._clock())
            self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while self._open:
                for name, count in self._plan.admit(self._clock()).items():
                    for _ in range(count):
                        self._waiting[name].popleft().set_result(None)
                switch = self._plan.switch(self._clock())
                if switch is None:
                    self._changed.wait(self._plan.next_look(self._clock()))
                    continue
                self._changed.release()
                try:
                    error = self._move(switch)
                finally:
                    self._changed.acquire()
                if error is None:
                    self._plan.moved(switch, self._clock())
                    self.switches += 1
                else:
                    self._plan.not_moved()
                    self._fail(switch.wake, error)

    def _move(self, switch: Switch) -> BackendError | None:
        try:
            for name in switch.park:
                self._parties[name].park()
            self._parties[switch.wake].wake()
        except Exception as error:  # noqa: BLE001 - whatever a party meets, its callers hear of it
            for name in switch.park:  # as it was before
                _try(self._parties[name].wake)
            if isinstance(error, BackendError):
                return error
            return BackendError(f"{switch.wake} cannot be moved to the GPU ({type(error).__name__}: {one_line(error)})")
        return None

    def _fail(self, name: str, error: BackendError) -> None:
        while self._waiting[name]:
            self._plan.give_up(name)
            self._waiting[name].popleft().set_exception(error)

    def _fail_all(self, error: BackendError) -> None:
        for name in self._waiting:
            self._fail(name, error)


def _try(call: Callable[[], None]) -> None:
    try:
        call()
    except BackendError as error:
        log.warning("%s", error)


# Parties


class ServerParty:
    """A server whose model sleeps: vLLM (`--enable-sleep-mode` and VLLM_SERVER_DEV_MODE=1), vLLM-Omni or SGLang. Its weights
    go to the host's memory. These routes ask for no key, so that only servers of this machine have them.

    vLLM's sleep waits for the requests under way (`mode=wait`); its default would abort them.
    """

    outlives = True
    ROUTES: Mapping[str, tuple[tuple[str, object], tuple[str, object]]] = {
        "vllm": (("/sleep?level=1&mode=wait", {}), ("/wake_up", {})),
        "vllm-omni": (
            ("/v1/omni/sleep", {"stage_ids": [0], "level": 1}),
            ("/v1/omni/wakeup", {"stage_ids": [0]}),
        ),
        "sglang": (("/release_memory_occupation", {}), ("/resume_memory_occupation", {})),
    }
    """Of each engine: what parks it, and what wakes it."""

    def __init__(self, config: GpuServerConfig, *, timeout_s: float = 120.0) -> None:
        self.name = config.base_url.rstrip("/")
        self.gb = config.gb
        self.parked_gb = CONTEXT_GB
        self._engine = config.sleep
        self._root = config.base_url.rstrip("/").removesuffix("/v1")
        self._timeout_s = timeout_s

    def park(self) -> None:
        self._post(*self.ROUTES[self._engine][0])

    def wake(self) -> None:
        self._post(*self.ROUTES[self._engine][1])

    def _post(self, route: str, body: object) -> None:
        import httpx

        try:
            with httpx.Client(timeout=self._timeout_s, trust_env=False) as client:
                response = client.post(self._root + route, json=body)
        except httpx.HTTPError as error:
            raise BackendError(f"{self._root}{route} cannot be reached ({one_line(error)}); start the server") from None
        if response.status_code == 404:
            raise BackendError(
                f"{self._root} knows no {route.partition('?')[0]}: start vLLM with --enable-sleep-mode and "
                'VLLM_SERVER_DEV_MODE=1, SGLang with --enable-memory-saver; or leave share = "swap" out'
            )
        if not response.is_success:
            raise BackendError(f"{self._root}{route} answers {response.status_code}: {one_line(response.text[:200])}")


@dataclass(frozen=True)
class LocalParty:
    """A model of this process; `to_gpu` and `to_host` move its weights, if they are loaded."""

    name: str
    gb: float
    to_gpu: Callable[[], None]
    to_host: Callable[[], None]
    parked_gb: float = CONTEXT_GB
    outlives: bool = False

    def wake(self) -> None:
        self.to_gpu()

    def park(self) -> None:
        self.to_host()


# Who is under a lease

_leases: dict[str, GpuLease] = {}
"""The lease of each party of this process, by its name: a server's address, or the model of this process."""


def put_under(lease: GpuLease) -> None:
    """From now on calls of the lease's parties go through it; when the process ends, it is closed."""
    _leases.update(dict.fromkeys(lease.names, lease))
    atexit.register(release, lease)


def release(lease: GpuLease) -> None:
    """Closes a lease, and takes its parties from under it."""
    lease.close()
    for name in [name for name, other in _leases.items() if other is lease]:
        del _leases[name]


@asynccontextmanager
async def on_gpu_async(name: str) -> AsyncIterator[None]:
    """Around a call of a party; does nothing for one that is under no lease."""
    name = name.rstrip("/")
    lease = _leases.get(name)
    if lease is None:
        yield
        return
    async with lease.use_async(name):
        yield


@contextmanager
def on_gpu(name: str) -> Iterator[None]:
    """`on_gpu_async` for threads."""
    name = name.rstrip("/")
    lease = _leases.get(name)
    if lease is None:
        yield
        return
    with lease.use(name):
        yield


# The plan by sums


@dataclass(frozen=True)
class MemoryLine:
    """A term of the sum: what takes it, how many GB, and how that was come by."""

    what: str
    gb: float
    how: str = ""


@dataclass(frozen=True)
class MemoryPlan:
    """What a profile takes of one GPU, by sums. With `swap`, the largest party and what the parked others keep."""

    lines: tuple[MemoryLine, ...]
    have_gb: float
    swap: bool

    @property
    def needed_gb(self) -> float:
        if not self.swap:
            return sum(line.gb for line in self.lines)
        return max(line.gb for line in self.lines) + CONTEXT_GB * (len(self.lines) - 1) if self.lines else 0.0

    @property
    def fits(self) -> bool:
        return self.needed_gb <= self.have_gb

    def __str__(self) -> str:
        """The sum on one line."""
        terms = [f"{line.what} {line.gb:.1f}{f' ({line.how})' if line.how else ''}" for line in self.lines]
        if self.swap:
            how = f"in turns: the largest of {', '.join(terms)}, and {CONTEXT_GB} for each that is parked"
        else:
            how = " + ".join(terms)
        return f"{how} = {self.needed_gb:.1f} GB of {self.have_gb:.1f} GB"


def find_gpu_gb() -> float | None:
    """The memory of the largest GPU of this machine; None if there is none, or nothing that knows. Imports torch only if it
    is loaded already or a GPU's driver is there."""
    if "torch" not in sys.modules and not os.path.exists("/proc/driver/nvidia"):
        return None
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    count = torch.cuda.device_count()
    return max(torch.cuda.get_device_properties(at).total_memory for at in range(count)) / 1e9


def plan_memory(profile: Profile, have_gb: float | None = None) -> MemoryPlan | None:
    """The plan of a profile that has a [gpu]; None if it has none. `have_gb` is used if the profile does not say."""
    gpu = profile.gpu
    have = have_gb if gpu is None or gpu.memory_gb is None else gpu.memory_gb
    if gpu is None or have is None:
        return None
    lines = [MemoryLine(f"server {server.base_url}", server.gb) for server in gpu.servers]
    if profile.generator is not None and profile.generator.server is None:
        lines.append(MemoryLine("generator", gpu.generator_gb))
    if profile.loads_editor:
        lines.append(MemoryLine("editor", gpu.editor_gb))
    lines.append(MemoryLine("CUDA and what the desktop shows", gpu.reserve_gb))
    if gpu.share == "swap":
        reserve = lines.pop()
        return MemoryPlan(tuple(lines), have - reserve.gb, swap=True)
    return MemoryPlan(tuple(lines), have, swap=False)


def require_memory(profile: Profile, have_gb: float | None = None) -> MemoryPlan | None:
    """The profile's plan. Raises ConfigError, with the numbers, if it does not fit."""
    plan = plan_memory(profile, have_gb)
    if plan is not None and not plan.fits:
        mend = (
            "take smaller or quantised models"
            if plan.swap
            else 'take smaller or quantised models, or share = "swap" in [gpu]'
        )
        raise ConfigError(f"the profile {profile.name!r} does not fit the GPU: {plan}; {mend}")
    return plan
