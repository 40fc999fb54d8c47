"""Conversations: what is said becomes drawings, changes, answers and ways back; nothing of it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from agent.chat.conversation import Conversation, check_name, delete_conversation, list_conversations
from agent.chat.values import Clarify, Replied, TurnBegan, TurnEvent
from agent.events import Judged, RunFinished, RunStarted, StepProgress
from agent.export import _read_signals
from agent.models import CallLimit, Models, RewritingModels
from agent.testing import fake_models, paint
from editors.backend import ImageTask
from editors.testing import FakeBackend
from redraft.errors import BackendError, InputError
from redraft.images import read_provenance
from redraft.limits import Limits
from redraft.profiles import load_profile
from rewriter.plan import Plan, Step
from rewriter.testing import FakePlanner, FakeRewriter
from rewriter.turns import RuleReader

GOOD = (0.97, 0.98, 0.99)


def models(**changes: object) -> Models:
    planner = FakePlanner(lambda situation: Plan("edit", "as told", (Step(situation.request),)))
    made = fake_models(
        lambda prompt, seed: GOOD if "star" in prompt else (0.2, 0.3, 0.4),
        rewriter=FakeRewriter(lambda call: [f"{call.request}, finely"]),
        planner=planner,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def created(home: Path, **changes: object) -> Conversation:
    return await Conversation.create(home, "one", models(**changes), limits=Limits())


async def say(chat: Conversation, request: str | None) -> list[TurnEvent | Replied | Clarify | None]:
    """What happens in a turn, and what it ends with."""
    events: list[TurnEvent | Replied | Clarify | None] = []

    async def tell(event: TurnEvent) -> None:
        events.append(event)

    last = await chat.turn(request, tell=tell)
    return [*events, last]


async def leave_at(chat: Conversation, request: str, kind: type) -> asyncio.Task[object]:
    """A turn that is held at its first event of that kind. Cancel it to leave it there."""
    held = asyncio.Event()

    async def tell(event: TurnEvent) -> None:
        if isinstance(event, kind):
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(chat.turn(request, tell=tell))
    await asyncio.wait_for(held.wait(), 30)
    return task


async def leave(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def reply(chat: Conversation, request: str | None) -> Replied:
    last = (await say(chat, request))[-1]
    assert isinstance(last, Replied)
    return last


async def test_a_drawing_is_changed_asked_about_and_taken_back(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    first = await say(chat, "a star")
    began = next(event for event in first if isinstance(event, TurnBegan))
    assert (began.kind, began.by) == ("draw", "rules")
    assert any(isinstance(event, Judged) for event in first), "what the run tells comes through"
    assert any(isinstance(event, RunFinished) for event in first)
    drawn = first[-1]
    assert isinstance(drawn, Replied)
    assert [picture.number for picture, _ in drawn.shown] == [1]
    assert drawn.shown[0][1].is_file()

    changed = await reply(chat, "make the star blue")
    assert changed.entry.kind == "edit"
    [(picture, _)] = changed.shown
    assert (picture.number, picture.made, picture.parent) == (2, "edited", 1)
    asked = await reply(chat, "how many stars are there?")
    assert (asked.entry.kind, asked.entry.current) == ("ask", 2)
    assert "make the star blue" in asked.entry.reply
    assert (await reply(chat, "undo")).entry.current == 1
    assert (await reply(chat, "/undo")).entry.current == 0
    nothing = await reply(chat, "/undo")
    assert nothing.entry.error
    assert "nothing to undo" in nothing.entry.reply
    assert (await reply(chat, "/back 2")).entry.current == 2
    assert (await reply(chat, "go back to the first picture")).entry.current == 1


async def test_everything_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    await say(chat, "/accept 0.5")
    await say(chat, "/seed 12")
    before = await chat.view()
    again = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    view = await again.view()
    assert view == before
    assert (view.turn, view.current, view.accept_at, view.seed) == (3, 1, 0.5, 12)
    await say(again, "draw a star again")
    run = next((tmp_path / "one").glob("turn-0004/run.json"))
    assert '"seed": 12' in run.read_text()
    assert '"accept_at": 0.5' in run.read_text()


async def test_one_question_is_asked_where_it_is_unclear(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    asked = (await say(chat, "two hearts"))[-1]
    assert isinstance(asked, Clarify)
    assert len(asked.choices) == 2
    again = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    assert (await again.view()).waiting == asked
    done = await reply(again, "change this one")
    assert (done.entry.kind, done.entry.request, done.entry.answer) == ("edit", "two hearts", "change this one")
    assert done.entry.question == asked.question


async def test_an_answer_that_is_another_wish_is_followed(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    assert isinstance((await say(chat, "two hearts"))[-1], Clarify)
    assert (await reply(chat, "undo")).entry.kind == "undo"


async def test_a_command_is_no_answer(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    assert isinstance((await say(chat, "two hearts"))[-1], Clarify)
    assert (await reply(chat, "/undo")).entry.current == 0
    view = await chat.view()
    assert (view.waiting, view.pending) == (None, None)
    assert [entry.request for entry in view.entries] == ["a star", "two hearts", "/undo"], "nothing said is missing"
    assert "not answered" in view.entries[1].reply


async def test_nobody_is_asked_who_does_not_want_to_be(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "/questions off")
    await say(chat, "a star")
    assert (await reply(chat, "two stars")).entry.kind == "draw"


async def test_a_copy_goes_its_own_way(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    branched = await reply(chat, "/branch other")
    assert branched.branch == "other"
    other = Conversation.open(tmp_path, "other", models(), limits=Limits(), profile=None)
    await say(other, "make the star blue")
    assert len((await other.view()).pictures) == 2
    assert len((await chat.view()).pictures) == 1
    assert {known.name: known.parent for known in list_conversations(tmp_path)} == {"one": None, "other": "one"}
    assert (await reply(chat, "/branch")).branch == "one-2"
    taken = await reply(chat, "/branch other")
    assert taken.entry.error


async def test_pictures_side_by_side_saved_listed_and_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chat = await created(tmp_path / "home")
    await say(chat, "a star")
    await say(chat, "make the star blue")
    compared = await reply(chat, "compare picture 1 and 2")
    assert compared.file is not None
    with Image.open(compared.file) as both:
        assert both.size == (64 + 8 + 64, 64)
    assert "they differ by" in compared.entry.reply
    assert (await reply(chat, "perfect, thanks!")).entry.kind == "accept"
    assert [picture.accepted for picture in (await chat.view()).pictures][-1]
    saved = await reply(chat, "save it as mine.png")
    assert saved.file == Path("mine.png")
    assert read_provenance(tmp_path / "mine.png")["redraft:made-from"] == "a star\nmake the star blue"
    listed = (await reply(chat, "/list")).entry.reply
    assert "> 2 edited of 1" in listed
    assert "conversations: one" in listed


async def test_a_picture_of_ones_own_and_a_mask(tmp_path: Path) -> None:
    paint(ImageTask("mine", 1)).save(tmp_path / "mine.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 40))
    mask.save(tmp_path / "mask.png")
    chat = await created(tmp_path / "home")
    opened = await reply(chat, f"/open {tmp_path / 'mine.png'}")
    assert opened.shown[0][0].made == "given"
    assert not (await reply(chat, f"/mask {tmp_path / 'mask.png'}")).entry.error
    await say(chat, "make the star blue")
    with Image.open(next((tmp_path / "home" / "one" / "turn-0003").glob("best.png"))) as best:
        assert best.crop((0, 40, 64, 64)).tobytes() == paint(ImageTask("mine", 1)).crop((0, 40, 64, 64)).tobytes()
    assert (await reply(chat, "/open nosuch.png")).entry.error


async def test_a_drawing_that_failed_is_taken_up_again(tmp_path: Path) -> None:
    broken = FakeBackend(paint=paint, script=[BackendError("the image server is down; start it")])
    chat = await created(tmp_path, generator=broken)
    failed = await reply(chat, "a star")
    assert failed.entry.error
    assert "the image server is down" in failed.entry.reply
    assert (await chat.view()).pictures == ()
    assert (await reply(chat, "/again")).shown[0][0].made_from == "a star"
    [(picture, _)] = (await reply(chat, "/again")).shown
    assert (picture.number, picture.made_from) == (2, "a star"), "what did not fail is made once more"


async def test_a_drawing_can_be_stopped_and_keeps_the_best(tmp_path: Path) -> None:
    chat = await created(tmp_path)

    async def tell(event: TurnEvent) -> None:
        if isinstance(event, StepProgress) and event.step == "judge":
            chat.cancel()

    stopped = await chat.turn("a circle", tell=tell)
    assert isinstance(stopped, Replied)
    assert "cancelled" in stopped.entry.reply
    assert len(stopped.shown) == 1


async def test_mistakes_are_told_and_leave_nothing_broken(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    for said, told in (
        ("/nosuch", "no command /nosuch"),
        ("/back", "used so: /back N"),
        ("/back 3", "no picture yet"),
        ("/edit make it blue", "no picture yet"),
        ("/seed x", "is a whole number"),
        ("/accept 2", "lies between"),
        ('/save "x', "never closed"),
        ("/export /nosuch/x.html", "cannot write"),
        ("   ", "say what you want"),
    ):
        answered = await reply(chat, said)
        assert answered.entry.error
        assert told in answered.entry.reply
    assert not (await reply(chat, "a star")).entry.error


async def test_the_page_tells_the_whole_conversation_and_runs_nothing(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star <script>alert(1)</script>")
    await say(chat, "make the star blue")
    page = (await chat.export(tmp_path / "talk.html")).read_text()
    assert "<script" not in page
    assert page.count('src="data:image/') == 2
    assert page.index("a star &lt;script") < page.index("make the star blue")
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


async def test_a_second_process_is_kept_out_while_a_turn_is_worked_on(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    other = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    task = await leave_at(chat, "a star", TurnBegan)
    with pytest.raises(InputError, match="another process"):
        await say(other, "a star")
    assert (await other.view()).pending == "a star", "but it may look"
    await leave(task)


async def test_a_turn_that_is_left_in_the_middle_is_gone_on_with(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await leave(await leave_at(chat, "a star", Judged))
    again = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    assert (await again.view()).pending == "a star"
    with pytest.raises(InputError, match="not finished"):
        await say(again, "another star")
    assert (await reply(again, None)).shown[0][0].made_from == "a star"
    assert (await again.view()).pending is None


def test_names_are_checked() -> None:
    assert check_name("Müll-1.b_c") == "Müll-1.b_c"
    for name in ("", "..", "../x", "a/b", ".hidden", "images", "x" * 65, "a b", "a\n"):
        with pytest.raises(InputError):
            check_name(name)


async def test_deleting_and_listing(tmp_path: Path) -> None:
    await created(tmp_path)
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "conversation.jsonl").write_text("{")
    assert [known.name for known in list_conversations(tmp_path)] == ["one"]
    delete_conversation(tmp_path, "one")
    assert list_conversations(tmp_path) == []
    with pytest.raises(InputError, match="no conversation 'one'"):
        Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)


async def test_pictures_go_with_the_last_conversation_that_has_them(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await reply(chat, "a star")
    copy = await chat.branch("copy")
    await reply(chat, "make the star blue")
    shared, own = (chat.store.path(picture.image) for picture in (await chat.view()).pictures)
    delete_conversation(tmp_path, "one")
    assert (shared.is_file(), own.is_file()) == (True, False)
    delete_conversation(tmp_path, copy.name)
    assert not shared.exists()


async def test_a_name_is_taken_once(tmp_path: Path) -> None:
    await created(tmp_path)
    with pytest.raises(InputError, match="already"):
        await created(tmp_path)


async def test_what_was_taken_back_is_brought_back_until_something_else_is_looked_at(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "a star")
    await say(chat, "make the star blue")
    nothing = await reply(chat, "redo")
    assert nothing.entry.error
    assert "nothing was undone" in nothing.entry.reply
    await say(chat, "undo")
    assert (await reply(chat, "/undo")).entry.current == 0
    assert (await reply(chat, "/redo")).entry.current == 1
    again = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    view = await again.view()
    assert _read_signals(view.entries, view.pictures)[2] == ("undone", 1)
    assert (await reply(again, "redo")).entry.current == 2
    view = await again.view()
    assert 2 not in _read_signals(view.entries, view.pictures), "what is brought back was not undone"
    assert (await reply(again, "/undo")).entry.current == 1
    await say(again, "/back 2")
    assert (await reply(again, "/redo")).entry.error


async def test_the_same_is_drawn_again_with_another_seed(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    assert (await reply(chat, "/again")).entry.error, "there is no picture yet"
    await say(chat, "/seed 12")
    await say(chat, "a star")
    drawn = await reply(chat, "again")
    [(picture, _)] = drawn.shown
    assert (picture.made, picture.made_from, picture.parent) == ("drawn", "a star", None)
    assert "seed 12" not in drawn.entry.reply
    await say(chat, "make the star blue")
    edited = await reply(chat, "/again 7")
    [(picture, _)] = edited.shown
    assert (picture.made, picture.made_from, picture.parent) == ("edited", "make the star blue", 2)
    assert "seed 7" in edited.entry.reply


@pytest.mark.parametrize("said", ["thanks", "Thank you!", "hello", "who are you?", "bye", "help"])
async def test_small_talk_draws_nothing(tmp_path: Path, said: str) -> None:
    chat = await created(tmp_path)
    talked = await reply(chat, said)
    assert (talked.entry.kind, talked.entry.error, talked.entry.pictures) == ("talk", False, ())


async def test_a_profile_that_only_rewrites_gives_prompts_and_says_what_would_draw(tmp_path: Path) -> None:
    fake = FakeRewriter(lambda call: [f"{call.request}, finely", "another one"][: call.n])
    profile = load_profile("small")
    only = RewritingModels(profile=profile, rewriter=fake, turn_reader=RuleReader(), calls=CallLimit())
    chat = await Conversation.create(tmp_path, "one", only, limits=Limits(), profile=profile)
    first = await reply(chat, "a star")
    assert first.entry.kind == "rewrite"
    assert first.entry.reply.splitlines()[0] == "a star, finely"
    assert "nothing is drawn: small only rewrites" in first.entry.reply
    assert (await reply(chat, "make it blue")).entry.reply == "make it blue, finely"
    assert (await reply(chat, "/again")).entry.reply == "another one"
    assert "there is no picture yet" in (await reply(chat, "/edit make it blue")).entry.reply
    view = await Conversation.open(tmp_path, "one", only, limits=Limits(), profile=profile).view()
    assert [entry.error for entry in view.entries] == [False, False, False, True]


async def test_several_pictures_of_a_request_are_made_by_runs_of_their_own(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "/seed 7")
    assert "3 pictures" in (await reply(chat, "/n 3")).entry.reply
    drawn = await reply(chat, "a star")
    assert [picture.number for picture, _ in drawn.shown] == [1, 2, 3]
    assert all(f"seed {seed}" in drawn.entry.reply for seed in (7, 8, 9))
    assert len({picture.image for picture, _ in drawn.shown}) == 3
    assert [Path(picture.run or "").name for picture, _ in drawn.shown] == ["turn-0003", "turn-0003-2", "turn-0003-3"]
    best = max(drawn.shown, key=lambda shown: shown[0].score or 0)[0]
    assert drawn.entry.current == best.number
    await say(chat, "/back 2")
    edited = await reply(chat, "make the star blue")
    assert [(picture.number, picture.parent) for picture, _ in edited.shown] == [(4, 2), (5, 2), (6, 2)]
    assert (await reply(chat, "/undo")).entry.current == 2, "they were one step"
    opened = Conversation.open(tmp_path, "one", models(), limits=Limits(), profile=None)
    assert len((await reply(opened, "/draw a circle")).shown) == 3
    for wrong in ("/n 0", "/n 11", "/n 2.5", "/n many"):
        refused = await reply(opened, wrong)
        assert refused.entry.error
        assert "n" in refused.entry.reply
    await say(opened, "/n 1")
    assert len((await reply(opened, "/draw a heart")).shown) == 1


async def test_a_turn_of_several_pictures_is_gone_on_with_after_a_kill(tmp_path: Path) -> None:
    chat = await created(tmp_path)
    await say(chat, "/n 3")
    await say(chat, "/seed 7")
    runs: list[str] = []
    held = asyncio.Event()

    async def tell(event: TurnEvent) -> None:
        if isinstance(event, RunStarted):
            runs.append(event.run)
        if isinstance(event, Judged) and len(runs) == 2:
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(chat.turn("a star", tell=tell))
    await asyncio.wait_for(held.wait(), 200)
    await leave(task)
    replied = await chat.turn(None)
    assert isinstance(replied, Replied)
    assert [picture.number for picture, _ in replied.shown] == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "one").glob("turn-*")) == [
        "turn-0003",
        "turn-0003-2",
        "turn-0003-3",
    ]


async def test_what_was_made_before_a_failure_is_kept_and_the_failed_one_is_taken_up_again(tmp_path: Path) -> None:
    broken = FakeBackend(paint=paint, script=[None, BackendError("the image server is down; start it")])
    chat = await created(tmp_path, generator=broken)
    await say(chat, "/n 2")
    await say(chat, "/accept 0.1")
    failed = await reply(chat, "a star")
    assert failed.entry.error
    assert "the image server is down" in failed.entry.reply
    assert [picture.number for picture, _ in failed.shown] == [1]
    [(picture, _)] = (await reply(chat, "/again")).shown
    assert (picture.number, Path(picture.run or "").name) == (2, "turn-0003-2")


async def test_an_edit_is_made_again_within_its_mask(tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    mask.save(tmp_path / "mask.png")
    paint(ImageTask("mine", 1)).save(tmp_path / "mine.png")
    chat = await created(tmp_path / "home")
    opened = await reply(chat, f"/open {tmp_path / 'mine.png'}")
    await say(chat, f"/mask {tmp_path / 'mask.png'}")
    await say(chat, "make the star blue")
    await say(chat, "/mask off")
    edited = await reply(chat, "/again 5")
    assert edited.shown[0][0].made == "edited"
    kept = (0, 0, 32, 64)
    with Image.open(opened.shown[0][1]) as before, Image.open(edited.shown[0][1]) as after:
        assert after.crop(kept).tobytes() == before.crop(kept).tobytes()
        assert after.tobytes() != before.tobytes()
