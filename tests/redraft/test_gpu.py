"""One GPU: the sum of what is on it, and a lease under which models take turns. All parties are fakes, or stubs of servers."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import deque
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from redraft.errors import BackendError, ConfigError
from redraft.gpu import (
    GpuLease,
    LocalParty,
    ServerParty,
    SwapPlan,
    on_gpu,
    on_gpu_async,
    plan_memory,
    put_under,
    release,
    require_memory,
)
from redraft.profiles import GpuServerConfig, Profile, builtin_profiles, load_profile
from tests.redraft.conftest import Answer, Call
from tests.redraft.openai_chats import Serve

SIZES = {"judge": (15.0, 0.5), "painter": (12.0, 0.5)}


def two(*, have: float = 20.0, stay: float = 5.0, sizes: dict[str, tuple[float, float]] = SIZES) -> SwapPlan:
    return SwapPlan(sizes, have, stay_s=stay)


def test_parties_that_fit_together_stay_awake() -> None:
    plan = two(have=28.0)
    assert plan.enter("judge", 0)
    assert plan.enter("painter", 0)
    assert plan.switch(0) is None


def test_of_three_only_as_many_are_parked_as_need_be_the_longest_unused_first() -> None:
    plan = two(have=24.0, sizes={"a": (8.0, 0.0), "b": (8.0, 0.0), "c": (8.0, 0.0), "d": (8.0, 0.0)})
    for now, name in enumerate("bca"):
        assert plan.enter(name, now)
        plan.leave(name, now)
    assert not plan.enter("d", 10)
    switch = plan.switch(10)
    assert switch is not None
    assert (switch.park, switch.wake) == (("b",), "d")


def test_a_call_under_way_is_never_cut_off() -> None:
    plan = two()
    assert plan.enter("judge", 0)
    assert not plan.enter("painter", 1)
    assert plan.switch(1000) is None
    plan.leave("judge", 1001)
    switch = plan.switch(1001)
    assert switch is not None
    plan.moved(switch, 1002)
    assert plan.admit(1002) == {"painter": 1}


def test_a_model_goes_on_while_others_wait_and_then_gives_way() -> None:
    plan = two(stay=5.0)
    assert plan.enter("judge", 0)
    assert not plan.enter("painter", 0)
    assert plan.enter("judge", 3)  # its time is not over
    assert not plan.enter("judge", 6)  # now it drains
    assert plan.switch(6) is None
    plan.leave("judge", 7)
    plan.leave("judge", 7)
    switch = plan.switch(7)
    assert switch is not None
    plan.moved(switch, 8)
    assert plan.admit(8) == {"painter": 1}
    assert not plan.is_awake("judge")


def test_time_alone_brings_the_next_look() -> None:
    plan = two(stay=5.0)
    assert plan.next_look(0) is None
    plan.enter("judge", 0)
    plan.enter("painter", 1)
    assert plan.next_look(2) == pytest.approx(4.0)


def test_a_party_that_does_not_fit_even_alone_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        ConfigError, match=r"judge takes 15.0 GB, and the parked others 0.5 GB: 15.5 GB, .* has 14.0 GB"
    ):
        two(have=14.0)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_the_gpu_is_never_too_full_and_everybody_is_served(seed: int) -> None:
    chance = random.Random(seed)
    sizes = {name: (chance.uniform(4, 14), 0.5) for name in "abcd"}
    plan = two(have=16.0, stay=chance.choice([0.0, 2.0]), sizes=sizes)
    now, asked, served = 0.0, 0, 0
    active: list[str] = []
    while asked < 200 or active or served < asked:
        now += chance.expovariate(2.0)
        if asked < 200 and chance.random() < 0.5:
            name = chance.choice("abcd")
            asked += 1
            if plan.enter(name, now):
                active.append(name)
        elif active:
            name = active.pop(chance.randrange(len(active)))
            assert plan.is_awake(name)
            plan.leave(name, now)
            served += 1
        if switch := plan.switch(now):
            assert not set(switch.park) & set(active)
            plan.moved(switch, now)
        assert plan.taken() <= 16.0 + 1e-9
        for name, count in plan.admit(now).items():
            active += [name] * count
        assert now < 100_000
    assert served == asked == 200


def switches(runs: int, rounds: int) -> float:
    """Switches per round and run, if `runs` work at once: each rewrites and judges (2 s) on one model and draws (8 s) on the
    other, in turn; a switch takes 3 s."""
    plan = two(stay=10.0)
    events: list[tuple[float, int, str]] = [(at * 0.1, at, "judge") for at in range(runs)]
    ends: list[tuple[float, int, str]] = []
    queue: dict[str, deque[int]] = {"judge": deque(), "painter": deque()}
    left = dict.fromkeys(range(runs), 2 * rounds)
    made, now = 0, 0.0
    seconds = {"judge": 2.0, "painter": 8.0}
    while events or ends or any(queue.values()):
        following = [item[0] for item in (*events, *ends)]
        look = plan.next_look(now)
        now = max(now, min([*following, *([] if look is None else [now + look + 1e-6])], default=now))
        for item in sorted(event for event in events if event[0] <= now):
            events.remove(item)
            if plan.enter(item[2], now):
                ends.append((now + seconds[item[2]], item[1], item[2]))
            else:
                queue[item[2]].append(item[1])
        for item in sorted(end for end in ends if end[0] <= now):
            ends.remove(item)
            plan.leave(item[2], now)
            left[item[1]] -= 1
            if left[item[1]]:
                events.append((now, item[1], "painter" if item[2] == "judge" else "judge"))
        if switch := plan.switch(now):
            now += 3.0
            plan.moved(switch, now)
            made += 1
        for name, count in plan.admit(now).items():
            ends += [(now + seconds[name], queue[name].popleft(), name) for _ in range(count)]
    return made / (rounds * runs)


def test_one_run_costs_two_switches_a_round_and_several_share_them() -> None:
    figures = [switches(runs, 10) for runs in (1, 4, 16)]
    assert figures[0] <= 2.0
    assert figures[0] > figures[1] > figures[2]


class Fake:
    """A party that notes whether it is awake, and fails if it is parked with a call under way, or woken beside the other."""

    parked_gb = 0.5
    outlives = True

    def __init__(self, name: str, gb: float, log: list[str], *, broken: bool = False) -> None:
        self.name, self.gb = name, gb
        self.awake = False
        self.active = 0
        self.others: Sequence[Fake] = ()
        self.faults: list[str] = []
        self._log = log
        self._broken = broken

    def wake(self) -> None:
        if self._broken:
            raise BackendError(f"{self.name} does not wake")
        self._log.append(f"wake {self.name}")
        if any(other.awake for other in self.others):
            self.faults.append("both awake")
        self.awake = True

    def park(self) -> None:
        self._log.append(f"park {self.name}")
        if self.active:
            self.faults.append("killed a call")
        self.awake = False

    def __enter__(self) -> None:
        self.active += 1
        if not self.awake:
            self.faults.append("called while asleep")

    def __exit__(self, *_: object) -> None:
        self.active -= 1


def fakes(*, broken: bool = False) -> tuple[Fake, Fake, list[str]]:
    log: list[str] = []
    judge, painter = Fake("http://127.0.0.1:8000/v1", 15.0, log), Fake("painter", 12.0, log, broken=broken)
    judge.others, painter.others = (painter,), (judge,)
    return judge, painter, log


async def test_calls_of_threads_and_of_an_event_loop_take_turns() -> None:
    judge, painter, _ = fakes()
    lease = GpuLease([judge, painter], 20.0, stay_s=0.0)

    async def ask() -> None:
        async with lease.use_async(judge.name):
            with judge:
                await asyncio.sleep(0)

    def draw() -> None:
        for _ in range(5):
            with lease.use("painter"), painter:
                pass

    threads = [threading.Thread(target=draw) for _ in range(3)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(ask() for _ in range(20)))
    await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    lease.close()
    assert (judge.faults, painter.faults) == ([], [])
    assert lease.switches >= 1


async def test_who_gives_up_waiting_holds_nothing() -> None:
    judge, painter, _ = fakes()
    lease = GpuLease([judge, painter], 20.0, stay_s=0.0)
    with lease.use(judge.name):
        waiting = asyncio.create_task(lease.use_async("painter").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    with lease.use(judge.name), judge:
        pass
    lease.close()


def test_opening_wakes_what_a_killed_process_left_asleep_and_closing_leaves_servers_awake() -> None:
    judge, painter, log = fakes()
    painter.outlives = False  # type: ignore[misc]
    lease = GpuLease([judge, painter], 20.0, stay_s=0.0)
    assert log == ["park painter", f"wake {judge.name}"]
    with lease.use("painter"):
        assert not judge.awake
    lease.close()
    assert judge.awake
    assert not painter.awake
    with pytest.raises(BackendError, match="closed"), lease.use("painter"):
        pass


def test_if_one_does_not_wake_its_callers_hear_of_it_and_the_others_go_on() -> None:
    judge, painter, _ = fakes(broken=True)
    lease = GpuLease([judge, painter], 20.0, stay_s=0.0)
    with pytest.raises(BackendError, match="does not wake"), lease.use("painter"):
        pass
    with lease.use(judge.name), judge:
        pass
    assert judge.faults == []
    lease.close()


async def test_calls_of_parties_under_a_lease_go_through_it_and_others_do_not() -> None:
    judge, painter, log = fakes()
    lease = GpuLease([judge, painter], 20.0, stay_s=0.0)
    put_under(lease)
    with on_gpu("painter"), on_gpu("somebody else"):
        assert painter.awake
    async with on_gpu_async(judge.name + "/"):
        assert judge.awake
    release(lease)
    before = len(log)
    with on_gpu("painter"):
        assert len(log) == before


@pytest.mark.parametrize(
    ("engine", "park", "wake"),
    [
        ("vllm", "/sleep?level=1&mode=wait", "/wake_up"),
        ("vllm-omni", "/v1/omni/sleep", "/v1/omni/wakeup"),
        ("sglang", "/release_memory_occupation", "/resume_memory_occupation"),
    ],
)
def test_the_routes_by_which_servers_sleep(serve: Serve, engine: str, park: str, wake: str) -> None:
    server = serve(lambda _: Answer({}))
    party = ServerParty(GpuServerConfig.model_validate({"base_url": server.url, "gb": 10, "sleep": engine}))
    party.park()
    party.wake()
    assert [call.path for call in server.calls] == [park, wake]


def test_a_server_that_cannot_sleep_is_told_how_to_be_started(serve: Serve) -> None:
    def unknown(_: Call) -> Answer:
        return Answer({}, 404)

    with pytest.raises(BackendError, match="--enable-sleep-mode"):
        ServerParty(GpuServerConfig(base_url=serve(unknown).url, gb=10)).park()


def test_a_party_of_this_process_is_moved_by_its_own_calls() -> None:
    moved: list[str] = []
    party = LocalParty("painter", 10.0, lambda: moved.append("to gpu"), lambda: moved.append("to host"))
    party.park()
    party.wake()
    assert moved == ["to host", "to gpu"]


def on_one_gpu(**gpu: object) -> Profile:
    data = load_profile("workstation").model_dump() | {"editor": None}
    servers = [{"base_url": "http://127.0.0.1:8000/v1", "gb": 17}]
    return Profile.model_validate(data | {"gpu": {"servers": servers, "generator_gb": 20.0, **gpu}})


def test_the_sum_is_refused_with_its_numbers_before_anything_loads() -> None:
    profile = on_one_gpu(memory_gb=24)
    with pytest.raises(ConfigError, match=r"8000/v1 17.0 \+ generator 20.0 .*= 38.0 GB of 24.0 GB; .*share = .swap."):
        require_memory(profile)
    plan = require_memory(on_one_gpu(memory_gb=24, share="swap"))
    assert plan is not None
    assert plan.needed_gb == pytest.approx(20.6)
    assert plan_memory(load_profile("mini")) is None
    assert plan_memory(on_one_gpu()) is None  # nothing knows how large the GPU is


_TERM = re.compile(r"#   \S.*?\((\d+\.\d)\)")
_PART = re.compile(
    r"(\d+(?:\.\d+)?) (?:weights|transformer|text encoder|VAE|key-value cache|CUDA|to work|to draw|to edit)"
)


@pytest.mark.parametrize("name", [name for name, path in builtin_profiles().items() if "[gpu]" in path.read_text()])
def test_the_sums_of_the_built_in_profiles_add_up(name: str) -> None:
    plan = require_memory(load_profile(name))
    assert plan is not None
    assert plan.needed_gb <= plan.have_gb
    # The comment says the same: its terms are the plan's, the parts of a term make the term, and all together the total.
    lines = builtin_profiles()[name].read_text().splitlines()
    terms: dict[float, list[float]] = {}
    for line in lines:
        if term := _TERM.match(line):
            latest = terms[float(term[1])] = []
        if terms and line.startswith("#   "):
            latest += map(float, _PART.findall(line))
        if total := re.match(r"#   (\d+\.\d) of (\d+)$", line):
            break
    assert total is not None
    assert (float(total[1]), float(total[2])) == (pytest.approx(plan.needed_gb), plan.have_gb)
    assert sorted(terms) == sorted(line.gb for line in plan.lines)
    assert {gb: pytest.approx(gb) for gb, parts in terms.items() if parts} == {
        gb: sum(parts) for gb, parts in terms.items() if parts
    }


def test_an_editor_of_the_generators_weights_takes_nothing_more() -> None:
    profile = load_profile("workstation")
    assert profile.editor is not None
    assert profile.gpu is not None
    drawing = profile.editor.model_copy(update={"steps": 9, "guidance": 4.0})
    shared = profile.model_copy(update={"generator": drawing})
    plan = plan_memory(shared)
    assert plan is not None
    assert [line.what for line in plan.lines if "editor" in line.what] == []
    with pytest.raises(ValidationError, match="editor_gb"):
        Profile.model_validate(profile.model_dump() | {"gpu": {"generator_gb": 20.0}})
    # They take turns with servers as the one model that they are.
    Profile.model_validate(shared.model_dump() | {"gpu": {"generator_gb": 20.0, "share": "swap"}})


@pytest.mark.parametrize(
    ("gpu", "noun"),
    [
        ({"servers": [{"base_url": "http://10.0.0.5:8000/v1", "gb": 10}]}, "this machine"),
        ({"generator_gb": 0.0}, "generator_gb"),
    ],
)
def test_settings_of_a_gpu_that_cannot_be_meant(gpu: dict[str, object], noun: str) -> None:
    with pytest.raises(ValidationError, match=noun):
        on_one_gpu(**gpu)
