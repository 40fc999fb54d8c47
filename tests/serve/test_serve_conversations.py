"""Conversations over HTTP: what is said becomes events, pictures and replies, and all of it can be read again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.serve.settings import Bounds
from agent.testing import drawn_from, paint
from editors.backend import ImageTask, StepCallback
from editors.testing import FakeBackend
from redraft.images import read_image
from redraft.options import DrawOptions
from tests.serve.conftest import Running, Start
from tests.serve.fakes import fake_served


class Held(FakeBackend):
    """Draws when it is let."""

    def __init__(self) -> None:
        super().__init__(paint=paint, steps=50)
        self.drawing = threading.Event()
        self.let = threading.Event()

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        self.drawing.set()
        while not self.let.wait(0.01):
            if on_step is not None:
                on_step(1, 50)
        return super().render(tasks, on_step)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events if event["id"] is not None]


def last(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(event for event in reversed(events) if event["event"] == name)


async def test_a_turn_is_told_from_beginning_to_end_and_can_be_read_again(server: Running) -> None:
    id = await server.new(title="stars")
    events = await server.say(id, "a star", seed=7, limits={"max_rounds": 1, "accept_at": 0.9})
    told = names(events)
    assert told[:4] == ["turn_queued", "turn_began", "run_started", "checklist"]
    assert told[-2:] == ["run_finished", "replied"]
    assert {"rewrite", "image", "attempt", "decided"} <= set(told)
    assert [event["id"] for event in events if event["id"] is not None] == list(range(1, len(told) + 1))
    begun = last(events, "run_started")
    assert begun["seed"] == 7
    assert (begun["limits"]["max_rounds"], begun["limits"]["accept_at"]) == (1, 0.9)
    attempt = last(events, "attempt")
    assert all(verdict["passed"] for verdict in attempt["verdicts"])

    view = (await server.http.get(f"/api/conversations/{id}")).json()
    assert view["turns"] == [last(events, "replied")["entry"]]
    assert view["pictures"] == last(events, "replied")["pictures"]
    assert (view["title"], view["current"], view["accept_at"]) == ("stars", 1, 0.9)
    assert (view["working"], view["waiting"], view["last_event"]) == (None, None, len(told))
    [listed] = (await server.http.get("/api/conversations")).json()["conversations"]
    assert (listed["id"], listed["turns"], listed["thumb"]) == (id, 1, view["pictures"][0]["image"])

    middle = await server.follow(id, after=4)
    assert [event["id"] for event in middle if event["id"] is not None] == list(range(5, len(told) + 1))

    run = view["pictures"][0]["run"]
    record = (await server.http.get(f"/api/runs/{run}")).json()
    assert (record["request"], record["seed"]) == ("a star", 7)
    trace = await server.http.get(f"/api/runs/{run}/trace")
    assert trace.status_code == 200
    assert "sandbox" in trace.headers["content-security-policy"]


async def test_a_picture_is_served_by_its_hash_for_good(server: Running) -> None:
    events = await server.say(await server.new(), "a star")
    digest = last(events, "image")["image"]
    answer = await server.http.get(f"/api/images/{digest}")
    assert hashlib.sha256(answer.content).hexdigest() == digest
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    again = await server.http.get(f"/api/images/{digest}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    small = read_image((await server.http.get(f"/api/images/{digest}?width=64")).content)
    assert small.width == 64
    assert (await server.http.get(f"/api/images/{digest}?width=9000")).status_code == 422


async def test_an_uploaded_picture_is_changed_within_a_mask(server: Running) -> None:
    id = await server.new()
    picture = paint(ImageTask("a heart", 1))
    image = await server.upload(picture)
    mask = Image.new("L", picture.size)
    mask.paste(255, (0, 32, 64, 64))
    marked = await server.upload(mask, mask=True)
    events = await server.say(id, "make the star blue", image=image, mask=marked)
    replied = last(events, "replied")
    assert replied["entry"]["kind"] == "edit"
    assert last(events, "run_started")["source"] == image
    view = (await server.http.get(f"/api/conversations/{id}")).json()
    assert [p["made"] for p in view["pictures"]] == ["given", "edited"]
    drawn = read_image((await server.http.get(f"/api/images/{view['pictures'][1]['image']}")).content)
    box = (0, 0, 64, 32)
    assert drawn.crop(box).tobytes() == picture.convert("RGB").crop(box).tobytes(), "kept outside of the mask"
    assert drawn.tobytes() != picture.convert("RGB").tobytes()

    later = await server.say(id, "make the star green")
    drawn = read_image((await server.http.get(f"/api/images/{last(later, 'replied')['pictures'][0]['image']}")).content)
    assert drawn_from(drawn)[0] == "make the star green", "the mask was for its own turn"


async def test_what_is_brought_has_to_be_there_and_to_fit(server: Running) -> None:
    id = await server.new()
    missing = await server.post(id, "make it blue", image="0" * 64)
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "bad_input")
    image = await server.upload(paint(ImageTask("a", 1)))
    tall = await server.upload(Image.new("L", (10, 90), 255), mask=True)
    wrong = await server.post(id, "make it blue", image=image, mask=tall)
    assert wrong.status_code == 400
    assert "mask" in wrong.json()["error"]["message"]
    alone = await server.post(id, "a star", mask=tall)
    assert alone.status_code == 400
    assert (await server.say(id, "a star"))[-1]["event"] == "replied", "nothing of it stays in the way"


async def test_a_question_is_answered_by_the_next_turn(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star")
    asked = (await server.say(id, "two hearts"))[-1]
    assert asked["event"] == "clarify"
    view = (await server.http.get(f"/api/conversations/{id}")).json()
    assert view["waiting"] == {"turn": 2, "question": asked["question"], "choices": asked["choices"]}
    done = (await server.say(id, asked["choices"][1]))[-1]
    assert (done["event"], done["entry"]["kind"], done["entry"]["request"]) == ("replied", "edit", "two hearts")
    assert (await server.http.get(f"/api/conversations/{id}")).json()["waiting"] is None


async def test_a_command_drops_a_question(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star")
    await server.say(id, "two hearts")
    done = (await server.say(id, "/undo"))[-1]
    assert (done["event"], done["current"], done["turn"]) == ("replied", 0, 3)


async def test_one_turn_at_a_time_and_it_can_be_cancelled(start: Start) -> None:
    backend = Held()
    async with start(lambda metrics: [fake_served(metrics, backend=backend)]) as server:
        id = await server.new()
        assert (await server.post(id, "a heart")).status_code == 202
        assert await asyncio.to_thread(backend.drawing.wait, 120)
        busy = await server.post(id, "a star")
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "busy")
        assert (await server.http.delete(f"/api/conversations/{id}")).status_code == 409
        assert (await server.http.post(f"/api/conversations/{id}/branch", json={})).status_code == 409
        view = (await server.http.get(f"/api/conversations/{id}")).json()
        assert view["working"] == {"turn": 1, "request": "a heart"}
        assert (await server.http.post(f"/api/conversations/{id}/cancel")).json() == {"cancelled": True}
        events = await server.follow(id)
        assert last(events, "run_finished")["stop"] == "cancelled"
        assert (await server.http.post(f"/api/conversations/{id}/cancel")).json() == {"cancelled": False}
        backend.let.set()
        assert (await server.say(id, "a star"))[-1]["event"] == "replied"


async def test_a_copy_goes_its_own_way_and_a_deleted_conversation_is_gone(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star")
    copy = (await server.http.post(f"/api/conversations/{id}/branch", json={"title": "the other"})).json()
    assert (copy["parent"], copy["title"], copy["turns"]) == (id, "the other", 1)
    await server.say(copy["id"], "make the star blue")
    assert len((await server.http.get(f"/api/conversations/{copy['id']}")).json()["pictures"]) == 2
    assert len((await server.http.get(f"/api/conversations/{id}")).json()["pictures"]) == 1
    said = (await server.say(id, "/branch ../../x"))[-1]
    assert (await server.http.get(f"/api/conversations/{said['branch']}")).json()["parent"] == id

    async def until_listeners(number: int) -> None:
        while server.service.broker.count_listeners() != number:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)

    await until_listeners(0)  # the streams that were left before
    stream = asyncio.create_task(server.follow(id, until=("deleted",)))
    await until_listeners(1)
    assert (await server.http.delete(f"/api/conversations/{id}")).status_code == 204
    assert (await stream)[-1]["event"] == "deleted"
    assert (await server.http.get(f"/api/conversations/{id}")).status_code == 404
    assert not list(server.service.files.home("local").glob(f"{id}*"))


async def test_a_stream_ends_whose_conversation_was_deleted_before_anybody_listened(server: Running) -> None:
    id = await server.new()
    events = await server.service.events("local", id, 0)
    assert (await server.http.delete(f"/api/conversations/{id}")).status_code == 204
    assert [event.event async for event in events if event is not None] == ["deleted"]


async def test_pictures_go_with_a_deleted_conversation_unless_others_have_them(server: Running) -> None:
    brought = await server.upload(paint(ImageTask("mine", 1)))
    id = await server.new()
    await server.say(id, "make it red", image=brought)
    copy = (await server.http.post(f"/api/conversations/{id}/branch", json={})).json()["id"]
    await server.say(id, "/draw a star with two moons")
    pictures = [p["image"] for p in (await server.http.get(f"/api/conversations/{id}")).json()["pictures"]]

    async def there(image: str) -> bool:
        return bool((await server.http.get(f"/api/images/{image}")).status_code == 200)

    assert all([await there(image) for image in pictures])
    assert (await server.http.delete(f"/api/conversations/{id}")).status_code == 204
    assert [await there(image) for image in pictures] == [True, True, False]
    again = await server.new()
    await server.say(again, "/draw a heart")
    assert (await server.http.delete(f"/api/conversations/{copy}")).status_code == 204
    assert [await there(image) for image in pictures] == [False, False, False]
    assert (await server.post(again, "make it red", image=brought)).status_code == 400, "it has to be brought again"
    assert await server.upload(paint(ImageTask("mine", 1))) == brought
    assert await there(brought)


async def test_titles_follow_the_first_words_and_can_be_changed(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star " + "and another " * 20)
    [listed] = (await server.http.get("/api/conversations")).json()["conversations"]
    assert listed["title"].startswith("a star and another")
    assert len(listed["title"]) <= 60
    changed = await server.http.patch(f"/api/conversations/{id}", json={"title": "mine", "may_ask": False})
    assert changed.json()["title"] == "mine"
    assert (await server.say(id, "two hearts"))[-1]["event"] == "replied", "nobody is asked any more"


async def test_two_pictures_side_by_side_are_a_picture_of_their_own(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star")
    await server.say(id, "make the star blue")
    replied = (await server.say(id, "/compare 1 2"))[-1]
    both = read_image((await server.http.get(f"/api/images/{replied['file']}")).content)
    assert both.size == (136, 64)
    page = await server.http.get(f"/api/conversations/{id}/export")
    assert "attachment" in page.headers["content-disposition"]
    assert "make the star blue" in page.text


async def test_files_of_the_server_cannot_be_named(server: Running, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    paint(ImageTask("secret", 1)).save(secret)
    id = await server.new()
    await server.say(id, "a star")
    for line in (f"/open {secret}", f"/mask {secret}", f"/export {tmp_path / 'out.html'}"):
        replied = (await server.say(id, line))[-1]
        assert replied["entry"]["error"], line
    saved = (await server.say(id, f"/save {tmp_path / 'out.png'}"))[-1]
    assert "download" in saved["entry"]["reply"]
    assert sorted(os.listdir(tmp_path)) == ["data", "secret.png"]
    assert id not in (await server.say(id, "/list"))[-1]["entry"]["reply"], "other conversations are not listed"


async def test_many_conversations_work_at_once_and_each_is_told_its_own(server: Running) -> None:
    ids = [await server.new() for _ in range(12)]
    words = [f"a star number {n}" for n in range(12)]
    all_events = await asyncio.gather(*(server.say(id, said) for id, said in zip(ids, words, strict=True)))
    for said, events in zip(words, all_events, strict=True):
        assert last(events, "replied")["entry"]["request"] == said
        assert all(said in event["prompt"] for event in events if event["event"] == "image")


async def test_drawing_goes_on_when_nobody_listens(start: Start) -> None:
    backend = Held()
    async with start(lambda metrics: [fake_served(metrics, backend=backend)]) as server:
        id = await server.new()
        await server.post(id, "a star")
        early = await server.follow(id, until=("rewrite",))
        assert await asyncio.to_thread(backend.drawing.wait, 120)
        backend.let.set()
        seen = max(event["id"] or 0 for event in early)
        late = await server.follow(id, after=seen)
        kept = [event["id"] for event in early + late if event["id"] is not None]
        assert kept == list(range(1, len(kept) + 1)), "nothing is missing, and nothing comes twice"


async def test_bounds_are_told_and_kept(start: Start) -> None:
    async with start(bounds=Bounds(max_rounds=3, max_conversations=2, max_prompt=20, max_turns=1)) as server:
        id = await server.new()
        above = await server.post(id, "a star", limits={"max_rounds": 4})
        assert "max_rounds is 3 at most" in above.json()["error"]["message"]
        assert (await server.post(id, "a star " * 9)).status_code == 400
        assert (await server.post(id, "   ")).status_code == 400
        wrong = await server.post(id, "a star", colour="red")
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "colour")
        await server.new()
        full = await server.http.post("/api/conversations", json={})
        assert (full.status_code, full.headers["retry-after"]) == (429, "2")
        unknown = await server.http.post("/api/conversations", json={"profile": "nobody"})
        assert "there are: fake" in unknown.json()["error"]["message"]
        assert (await server.http.get("/api/me")).json()["limits"]["max_rounds"] == 3


async def test_metrics_and_health(server: Running) -> None:
    assert (await server.http.get("/healthz")).text == "ok\n"
    assert (await server.http.get("/readyz")).text == "ready\n"
    await server.say(await server.new(), "a star")
    page = (await server.http.get("/metrics")).text
    for line in (
        'redraft_step_seconds_count{step="render"}',
        'redraft_checks_total{outcome="scored"}',
        'redraft_images_total{kind="generate"}',
        'redraft_runs_total{stop="accepted"} 1.0',
        "redraft_image_worker_busy_seconds_total",
        "redraft_image_queue 0.0",
    ):
        assert line in page, line
    server.service.draining = True
    assert (await server.http.get("/readyz")).status_code == 503
    refused = await server.http.post("/api/conversations", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    server.service.draining = False


async def test_a_failing_model_is_told_in_the_reply_and_the_next_turn_works(start: Start) -> None:
    from redraft.errors import BackendError

    backend = FakeBackend(paint=paint, script=[BackendError("the painter is ill")])
    async with start(lambda metrics: [fake_served(metrics, backend=backend)]) as server:
        id = await server.new()
        replied = (await server.say(id, "a star"))[-1]
        assert replied["entry"]["error"]
        assert "the painter is ill" in replied["entry"]["reply"]
        again = (await server.say(id, "/again"))[-1]
        assert not again["entry"]["error"]


async def test_single_drawings_are_told_and_end_with_their_result(server: Running) -> None:
    from agent.events import RunStarted
    from agent.run import RunResult

    events = [event async for event in server.service.drawings.draw("local", "a star", options=DrawOptions(seed=3))]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunResult)
    best = events[-1].best_attempt
    assert best is not None
    assert (await server.http.get(f"/api/images/{best.image}")).status_code == 200
    trace = await server.http.get(server.service.runs.trace_url(events[0].run))
    assert trace.status_code == 200
    source = paint(ImageTask("a heart", 1))
    edited = [event async for event in server.service.drawings.draw("local", "make it a star", image=source)][-1]
    assert isinstance(edited, RunResult)
    assert edited.source is not None
    report = await server.service.judge("local", source, "a star")
    assert report.score is not None
    assert (await server.service.enhance("local", "a star")).prompt == "a star, finely"


@pytest.mark.parametrize("after", ["x", "-1", "99999999999999999999999999"])
async def test_a_strange_last_event_id_is_no_fault(server: Running, after: str) -> None:
    id = await server.new()
    async with server.http.stream("GET", f"/api/conversations/{id}/events", headers={"Last-Event-ID": after}) as stream:
        assert stream.status_code == 200
    below = await server.http.get(f"/api/conversations/{id}/events?after=-3")
    assert below.json()["error"]["code"] == "bad_body"


async def test_several_pictures_of_a_turn_have_runs_and_events_of_their_own(server: Running) -> None:
    id = await server.new()
    events = await server.say(id, "a star", n=2, options={"seed": 7, "max_rounds": 1, "max_images": 1})
    runs = [event["run"] for event in events if event["event"] == "run_started"]
    assert runs == [f"{id}.turn-0001", f"{id}.turn-0001-2"]
    assert [event["run"] for event in events if event["event"] == "run_finished"] == runs
    for name in ("checklist", "image", "attempt", "decided"):
        assert len([event for event in events if event["event"] == name]) == 2, name
    replied = last(events, "replied")
    assert [picture["run"] for picture in replied["pictures"]] == runs
    for run, seed in zip(runs, (7, 8), strict=True):
        assert (await server.http.get(f"/api/runs/{run}")).json()["seed"] == seed
    refused = await server.post(id, "a star", n=11)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "n")
