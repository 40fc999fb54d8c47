"""The reward server and its client, over real connections on 127.0.0.1."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pkgutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from PIL import Image

from evaluator.criteria.http import HttpScorer
from evaluator.reward import Standing
from evaluator.types import Case, Outcome, Reading, Report, Shot
from redraft.errors import BackendError, BadReply, ConfigError, InputError, ModelMissing, ServerError
from redraft.profiles import ServerConfig
from rewriter.train.image_reward import (
    PictureRater,
    RewardArguments,
    RewardSample,
    RewardSource,
    ScoredSample,
    Scores,
    Wish,
)
from rewriter.train.reward_server import (
    RemoteArguments,
    RemoteReward,
    RewardServer,
    ServerArguments,
    open_source,
    split,
)
from tests.rewriter_train.fake_reward import FakeReward


def reply(rewrite: str) -> str:
    return f"<think>stars</think><answer>{rewrite}</answer>"


@contextmanager
def serving(source: RewardSource, rater: PictureRater | None = None, **settings: object) -> Iterator[str]:
    server = RewardServer(source, ServerArguments(port=0, **settings), rater)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()
        thread.join()


def samples(count: int, prompt: str = "two stars") -> list[RewardSample]:
    return [RewardSample(prompt, reply(f"two red stars {'by night ' * i}")) for i in range(count)]


def post(url: str, path: str, body: bytes) -> tuple[int, str]:
    """Status and body of the answer."""
    link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    link.request("POST", path, body)
    response = link.getresponse()
    said = response.status, response.read().decode()
    link.close()
    return said


class Brightness:
    """A rater that finds pictures as good as they are bright; a black one FAILED."""

    async def rate(self, requests: Sequence[str], images: Sequence[Image.Image]) -> list[tuple[Report, Standing]]:
        lights = [image.convert("L").getpixel((0, 0)) / 255 for image in images]  # type: ignore[operator]
        return [
            (Report((), light, int(light == 0), readings={"checks": Reading(Outcome.SCORED, light)}), Standing(None))
            for light in lights
        ]


async def test_pictures_of_others_are_scored_and_our_own_criterion_reads_the_wire() -> None:
    shots = [Shot((Image.new("RGB", (4, 4), grey),)) for grey in ((255,) * 3, (51,) * 3, (0,) * 3)]
    with serving(FakeReward(), Brightness()) as url:
        scorer = HttpScorer(ServerConfig(base_url=f"{url}/images", max_retries=0))
        readings = await scorer(Case("two stars"), shots)
        few = json.dumps({"prompts": ["x"], "images": []}).encode()
        status, body = post(url, "/images", few)
    assert [reading.value for reading in readings] == [pytest.approx(1.0), pytest.approx(0.2), None]
    assert "no score" in readings[2].reason
    assert status == 400
    assert "1 prompts for 0 images" in body
    with serving(FakeReward()) as url:
        assert post(url, "/images", few)[0] == 404


async def test_rewards_and_pictures_come_through_whole() -> None:
    def script(sample: RewardSample, rewrite: str) -> float | None:
        return None if "night" in rewrite else 0.25

    source = FakeReward(script)
    asked = [
        RewardSample("two stars", reply("two “red” stars")),
        *samples(2),
        RewardSample("x", "<think>", truncated=True),
    ]
    with serving(source) as url:
        remote = RemoteReward(url, max_failed=0.5)
        found = await remote(asked)
        pictures = await remote.draw([Wish("two stars", "two red stars"), Wish("x", "y", "z")])
    assert source.calls == [tuple(asked)]
    assert found == await FakeReward(script)(asked)
    assert [one.reward for one in found.samples] == [pytest.approx(0.35), pytest.approx(0.35), None, -0.5]
    assert [picture.size for picture in pictures if picture is not None] == [(16, 16)] * 2
    assert source.drawn == [Wish("two stars", "two red stars"), Wish("x", "y", "z")]
    assert source.closed


class Slow(FakeReward):
    """Holds every call until `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        found = await super().__call__(samples)
        await asyncio.to_thread(self.go.wait, 20)
        return found


def _health(url: str) -> dict[str, object]:
    link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    link.request("GET", "/health")
    told: dict[str, object] = json.loads(link.getresponse().read())
    link.close()
    return told


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if await asyncio.to_thread(true):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def _keep_busy(source: Slow, url: str) -> list[asyncio.Task[Scores]]:
    """Two callers whose lots are under way, which is all that the server has at once."""
    tasks = []
    for number in (1, 2):
        tasks.append(asyncio.create_task(RemoteReward(url)(samples(1, f"busy {number}"))))
        await _until(lambda number=number: len(source.calls) == number)
    return tasks


async def test_callers_that_wait_are_scored_together_and_each_gets_its_own() -> None:
    source = Slow()
    with serving(source) as url:
        first = await _keep_busy(source, url)
        later = [asyncio.create_task(RemoteReward(url)(samples(i + 1, f"caller {i}"))) for i in range(3)]
        await _until(lambda: _health(url)["waiting"] == 2 + 6)
        source.go.set()
        await asyncio.gather(*first)
        found = await asyncio.gather(*later)
    assert [len(one.samples) for one in found] == [1, 2, 3]
    for scores in found:
        assert [one.prompt for one in scores.samples] == [
            "two red stars" + " by night" * i for i in range(len(scores.samples))
        ]
        assert scores.judgements == len(scores.samples)
    # Two lots may be under way; what came after them went together.
    assert sorted(len(call) for call in source.calls) == [1, 1, 6]


async def test_no_more_go_together_than_allowed() -> None:
    source = Slow()
    with serving(source, together=4) as url:
        first = await _keep_busy(source, url)
        later = [asyncio.create_task(RemoteReward(url)(samples(2))) for _ in range(3)]
        await _until(lambda: _health(url)["waiting"] == 2 + 6)
        source.go.set()
        await asyncio.gather(*first, *later)
    assert sorted(len(call) for call in source.calls) == [1, 1, 2, 4]


async def test_a_trainer_that_hangs_up_is_no_trouble(capfd: pytest.CaptureFixture[str]) -> None:
    source = Slow()
    with serving(source) as url:
        link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        body = json.dumps({"samples": [{"request": "x", "reply": reply("x" * 500_000)}]})
        link.request("POST", "/score", body)
        await _until(lambda: len(source.calls) == 1)
        assert link.sock is not None
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the end comes at once
        link.close()
        source.go.set()
        await _until(lambda: _health(url)["waiting"] == 0)
        assert len((await RemoteReward(url)(samples(1))).samples) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_failures_are_counted_for_each_caller() -> None:
    good, bad = ScoredSample(0.5, 0.4, 1.0, "a", pictures=2), ScoredSample(None, None, 1.0, "b", pictures=2, failed=2)
    unread = ScoredSample(-0.5, 0.0, 0.0, None, penalty=0.5)
    whole = Scores((good, good, bad, unread), 6, 2, 0, ("gone",), 1.0, 2.0, 3.0)
    one, two = split(
        whole, [[RewardSample("x", "a"), RewardSample("x", "a")], [RewardSample("y", "b"), RewardSample("y", "")]]
    )
    assert (one.samples, one.judgements, one.failed, one.reasons) == ((good, good), 2, 0, ())
    assert (two.samples, two.judgements, two.failed, two.reasons) == ((bad, unread), 2, 2, ("gone",))


async def test_too_many_failures_stop_this_trainer_alone() -> None:
    def script(sample: RewardSample, rewrite: str) -> float | None:
        return None if sample.request == "broken" else 0.5

    with serving(FakeReward(script)) as url:
        with pytest.raises(BackendError, match=r"2 of 2 judgements .* max_failed.*as scripted"):
            await RemoteReward(url)(samples(2, "broken"))
        assert (await RemoteReward(url)(samples(2, "whole"))).failed == 0


async def test_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDRAFT_TEST_TOKEN", "s3cret-token")
    monkeypatch.setenv("REDRAFT_OTHER_TOKEN", "wrong-token")
    with serving(FakeReward(), token_env="REDRAFT_TEST_TOKEN") as url:
        found = await RemoteReward(url, token_env="REDRAFT_TEST_TOKEN")(samples(1))
        assert len(found.samples) == 1
        for env in (None, "REDRAFT_OTHER_TOKEN"):
            with pytest.raises(ConfigError, match="wants its token: set reward_token_env"):
                await RemoteReward(url, token_env=env)(samples(1))
        assert "token" in str((await asyncio.to_thread(_health, url))["error"])
    monkeypatch.delenv("REDRAFT_TEST_TOKEN")
    with pytest.raises(ConfigError, match="REDRAFT_TEST_TOKEN is not set"):
        RemoteReward("http://127.0.0.1:1", token_env="REDRAFT_TEST_TOKEN")
    with pytest.raises(ConfigError, match="REDRAFT_TEST_TOKEN is not set"):
        RewardServer(FakeReward(), ServerArguments(port=0, token_env="REDRAFT_TEST_TOKEN"))


async def _no_wait(seconds: float) -> None:
    assert seconds >= 2


async def test_passing_errors_are_tried_again_and_lasting_ones_are_not() -> None:
    errors: list[Exception] = [BackendError("the judge is busy"), BackendError("the judge is busy")]

    def script(sample: RewardSample, rewrite: str) -> float:
        if errors:
            raise errors.pop()
        return 0.5

    source = FakeReward(script)
    with serving(source) as url:
        remote = RemoteReward(url, sleep=_no_wait)
        assert (await remote(samples(1))).samples[0].alignment == 0.5
        assert len(source.calls) == 3
        errors.append(ModelMissing("no weights in x; download them"))
        with pytest.raises(BackendError, match="answered 500: no weights in x; download them"):
            await remote(samples(1))
        errors.append(ZeroDivisionError("a mistake"))
        with pytest.raises(BackendError, match="ZeroDivisionError: a mistake"):
            await remote(samples(1))
        errors.extend(BackendError("the judge is gone") for _ in range(20))
        with pytest.raises(ServerError, match=r"503: the judge is gone; gave up after 6 tries"):
            await remote(samples(1))


async def test_a_server_that_is_not_there() -> None:
    with serving(FakeReward()) as url:
        pass
    with pytest.raises(ServerError, match=r"cannot be reached .*start it, or check reward_url; gave up after 6"):
        await RemoteReward(url, sleep=_no_wait)(samples(1))


async def test_several_reward_servers_share_the_samples_and_do_the_part_of_a_dead_one() -> None:
    sources = [FakeReward(), FakeReward()]
    wanted = [*samples(3), *samples(2, "a fox"), *samples(2, "a hen")]
    with serving(sources[0]) as first, serving(sources[1]) as second:
        scores = await RemoteReward(f"{first},{second}")(wanted)
        assert [{sample.request for call in source.calls for sample in call} for source in sources] in (
            [{"two stars"}, {"a fox", "a hen"}],
            [{"a fox", "a hen"}, {"two stars"}],
        )
        alone = await FakeReward()(wanted)
        assert (scores.samples, scores.judgements) == (alone.samples, alone.judgements)
        assert (await RemoteReward(f"http://127.0.0.1:9, {second}")(wanted)).samples == alone.samples


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8100", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x?y"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="reward_url"):
        RemoteReward(url)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        ("/score", b"{", {}, 400, "no request for scores"),
        ("/score", b'{"samples": [{"request": "x"}]}', {}, 400, "reply"),
        ("/score", b'{"samples": [{"request": "x", "reply": 3}]}', {}, 400, "samples.0.reply"),
        ("/draw", b'{"wishes": [["x"]]}', {}, 400, "no request for pictures"),
        ("/none", b"{}", {}, 404, "no POST /none"),
        ("/score", b"2\r\n{}\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
        ("/score", b"{}", {"Content-Length": str(10**12)}, 413, "64 MiB"),
        ("/draw", json.dumps({"wishes": [["x", "y", None]] * 9000}).encode(), {}, 413, "8192 samples"),
    ],
)
def test_requests_that_are_refused(path: str, body: bytes, headers: dict[str, str], status: int, said: str) -> None:
    source = FakeReward()
    with serving(source) as url:
        link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        link.request("POST", path, body, headers)
        response = link.getresponse()
        assert response.status == status
        assert said in json.loads(response.read())["error"]
        link.close()
    assert source.calls == []


def test_a_length_that_is_no_number_is_refused() -> None:
    with serving(FakeReward()) as url:
        link = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        link.request("POST", "/score", b"{}", {"Content-Length": "x"})
        assert link.getresponse().status == 400
        link.close()


class _Odd(BaseHTTPRequestHandler):
    said = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.said)))
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"<html>", "gave a reply that is none of a reward server"),
        (b'{"samples": []}', "none of a reward server"),
        (
            b'{"samples":[],"judgements":0,"failed":0,"cached":0,"reasons":[],"draw_s":0,"judge_s":0,"wall_s":0}',
            "0 rewards for 1 samples",
        ),
    ],
)
async def test_replies_that_are_none(said: bytes, match: str) -> None:
    handler = type("Odd", (_Odd,), {"said": said})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pytest.raises(BadReply, match=match):
            await RemoteReward(f"http://127.0.0.1:{server.server_port}")(samples(1))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_settings_that_the_server_decides_are_refused_at_the_trainer() -> None:
    remote = RemoteArguments(reward_url="http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="the reward server decides profile, judge_passes"):
        open_source(RewardArguments(profile="mini", judge_passes=2), remote, "mini", None)
    assert isinstance(open_source(RewardArguments(), remote, "mini", None), RemoteReward)
    with pytest.raises(ConfigError, match="profile is missing"):
        open_source(RewardArguments(), RemoteArguments(), "mini", None)


def test_a_port_that_is_taken() -> None:
    with (
        serving(FakeReward()) as url,
        pytest.raises(InputError, match=r"cannot listen on .*choose another --port"),
    ):
        RewardServer(FakeReward(), ServerArguments(port=int(url.rpartition(":")[2])))


def test_the_script_serves_a_profile_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """A process of its own. Nothing is drawn: unreadable replies need no models, and mini's load when first needed."""
    config = tmp_path / "server.yaml"
    config.write_text(yaml.safe_dump({"profile": "mini", "port": 0, "penalty_most": 0.75}), encoding="utf-8")
    command = [sys.executable, "-m", "rewriter.train.reward_server", "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "http://" in line:
                    break
            assert lines, "the server said nothing"
            assert "http://" in lines[-1], "".join(lines)
            url = lines[-1].split()[-1]
            found = asyncio.run(RemoteReward(url)([RewardSample("two stars", "<think>")]))
            assert [one.reward for one in found.samples] == [-0.75]
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert time.monotonic() - began < 60
        finally:
            process.kill()


def test_pictures_survive_the_wire() -> None:
    from rewriter.train.reward_server import pack_picture, unpack_picture

    image = Image.new("RGB", (3, 2), (1, 2, 3))
    again = unpack_picture(pack_picture(image))
    assert again is not None
    assert again.tobytes() == image.tobytes()
    assert unpack_picture(pack_picture(None)) is None
    for bad in ("%%%", "aGVsbG8="):
        with pytest.raises(ValueError, match="no PNG picture"):
            unpack_picture(bad)


def test_trl_finds_the_whole_reward_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `trl grpo --reward_funcs rewriter.train.trl_reward.rewrite_reward` finds and calls it."""
    from rewriter.train import trl_reward

    function = pkgutil.resolve_name("rewriter.train.trl_reward.rewrite_reward")
    source = FakeReward(lambda sample, rewrite: None if "night" in rewrite else 0.4)
    texts = [
        *(reply(f"two red stars {'on blue ' * n}") for n in range(5)),
        "stars, I think",
        reply("two red stars by night"),
    ]
    count = len(texts)
    ids = [[1]] * count
    trl_reward._shared.cache_clear()
    with serving(source) as url:
        monkeypatch.setenv("REDRAFT_REWARD_URL", url)
        of_texts = function(prompts=["two stars"] * count, completions=texts, completion_ids=ids, trainer_state=None)
        chats = [[{"role": "assistant", "content": text}] for text in texts]
        prompts = [[{"role": "system", "content": "Rewrite."}, {"role": "user", "content": "a moon"}]] * count
        of_chats = function(prompts=prompts, completions=chats, completion_ids=ids, request=["a star"] * count)
        without = function(prompts=prompts, completions=chats)
        trl_reward._shared().close()
    trl_reward._shared.cache_clear()
    assert of_texts == of_chats == without == [*[pytest.approx(0.5)] * 5, -0.5, None], "failed is None, never 0"
    assert [call[0] for call in source.calls] == [
        RewardSample(request, texts[0]) for request in ("two stars", "a star", "a moon")
    ]
