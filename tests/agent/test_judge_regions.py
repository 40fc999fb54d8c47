"""The whole way of a judge's region: a check that did not pass, the plan, the area, the mask of the edit, the trace."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.run import Run, RunResult
from agent.testing import drawn_from, fake_models, paint, with_judge
from editors.backend import ImageTask
from editors.testing import FakeBackend
from evaluator.judge import open_judge
from evaluator.reward import checks_reward
from evaluator.server_judge import ServerJudge
from evaluator.types import Check, Outcome
from mini.phrasebook.planner import PhrasePlanner
from redraft.chat import ChatReply, ChatRequest
from redraft.images import ImageStore
from redraft.limits import Limits, TreeLimits
from redraft.profiles import JudgeConfig, ModelConfig, ServerConfig
from redraft.testing import FakeChat, text_of

Serve = Callable[..., Any]
STAR = Check("cross_entity_binding", "Is the star blue?")
CIRCLES = Check("counting", "Are there exactly three circles?")
REASON = "The star is <b>red</b>."


def config(address: str = "http://127.0.0.1:9/v1") -> JudgeConfig:
    model = ModelConfig(kind="openai", model="vlm", server=ServerConfig(base_url=address, max_retries=0))
    return JudgeConfig(model=model, explain=True)


def paint_blue(task: ImageTask) -> Image.Image:
    """As `paint`, with a change that is large enough to be seen, inside the region."""
    picture = paint(task)
    picture.paste((20, 40, 220), (0, 8, 64, 30))
    return picture


async def mended(out: Path, box: object) -> tuple[RunResult, dict[str, Any], FakeBackend]:
    """A drawing whose star is not blue, mended by an edit. `box`: where the judge says that the star is."""

    def script(request: ChatRequest) -> ChatReply | str:
        if not request.choices:
            return json.dumps({"reason": REASON, "verdict": "no", "box": box})
        image = request.messages[0].content[0]
        assert isinstance(image, Image.Image)
        missed = STAR.question in text_of(request) and drawn_from(image)[0] != "recolour star to blue"
        yes = 0.1 if missed else 0.98
        return ChatReply("yes", logprobs={"yes": math.log(yes), "no": math.log(1 - yes)})

    judge = ServerJudge(FakeChat(script), config(), explain=True)
    editor = FakeBackend(name="fake editor", paint=paint_blue)
    planner = PhrasePlanner()
    models = fake_models(lambda prompt, seed: (), checks=(STAR, CIRCLES), planner=planner, editor=editor)
    models = replace(models, judge=judge, reward=checks_reward(judge), editing=with_judge(models, judge))
    limits = Limits(images_per_round=1, max_rounds=2, tree=TreeLimits(width=1))
    result = await Run.start("a blue star, three circles", models, limits=limits, out=out, seed=7).run()
    return result, json.loads((result.folder / "run.json").read_text()), editor


async def test_a_judges_region_becomes_cue_mask_and_a_box_in_the_trace(tmp_path: Path) -> None:
    result, record, editor = await mended(tmp_path, [0, 0, 1000, 500])
    star, circles = record["attempts"][0]["report"]["verdicts"]
    assert (star["region"], star["reason"]) == ([0.0, 0.0, 1.0, 0.5], REASON)
    assert '"box": [0, 0, 1000, 500]' in star["raw"]
    assert circles["region"] is None

    [plan] = [round_["plan"] for round_ in record["rounds"] if "plan" in round_]
    [step] = plan["steps"]
    assert (step["instruction"], step["local"]) == ("recolour star to blue", True)
    assert (step["region"], step["area_from"]) == ([0.0, 0.0, 1.0, 0.5], "the judge")
    area = ImageStore(result.folder / "state" / "images").get(step["area"]).convert("L")
    assert area.getbbox() == (0, 0, 64, 36), "the box and its margin"
    [[task]] = editor.calls
    assert task.mask is not None
    assert task.mask.convert("L").tobytes() == area.tobytes()

    page = result.trace.read_text()
    assert "Where: the judge" in page
    box = (
        '<span class="box" style="left:0.00%;top:0.00%;width:100.00%;height:50.00%" aria-hidden="true"><b>1</b></span>'
    )
    assert page.count(box) == 1, "on the first picture; the second has no fault"
    assert '<span class="tag">box 1, top centre</span>' in page
    assert "The star is &lt;b&gt;red&lt;/b&gt;." in page
    assert result.best_attempt is not None
    assert (result.best_attempt.kind, result.stop.value) == ("edit", "accepted")


@pytest.mark.parametrize("box", [None, [0, 0, 2000, 500], "here"])
async def test_without_a_place_the_edit_is_free_and_nothing_is_drawn(tmp_path: Path, box: object) -> None:
    result, record, editor = await mended(tmp_path, box)
    star = record["attempts"][0]["report"]["verdicts"][0]
    assert (star["region"], star["reason"]) == (None, REASON)
    [[task]] = editor.calls
    assert task.mask is None
    assert 'class="box"' not in result.trace.read_text()


async def test_what_an_edit_is_to_change_is_shown_on_the_given_picture(tmp_path: Path) -> None:
    given = paint(ImageTask("given", 0))
    said = {STAR.question: [500, 500, 1000, 1000], CIRCLES.question: [100, 0, 200, 100]}

    def script(request: ChatRequest) -> ChatReply | str:
        if not request.choices:
            box = next(box for question, box in said.items() if question in text_of(request))
            return json.dumps({"reason": REASON, "verdict": "no", "box": box})
        image = request.messages[0].content[0]
        assert isinstance(image, Image.Image)
        yes = 0.1 if drawn_from(image)[0] == "given" else 0.98
        return ChatReply("yes", logprobs={"yes": math.log(yes), "no": math.log(1 - yes)})

    judge = ServerJudge(FakeChat(script), config(), explain=True)
    models = fake_models(lambda prompt, seed: (), checks=(STAR, CIRCLES), planner=PhrasePlanner())
    models = replace(models, judge=judge, reward=checks_reward(judge), editing=with_judge(models, judge))
    limits = Limits(max_rounds=1, tree=TreeLimits(width=1))
    result = await Run.start("make it so", models, limits=limits, out=tmp_path, seed=7, source=given).run()
    page = result.trace.read_text()
    figure = page[page.index('alt="The picture that was given"') : page.index("<figcaption>The picture that was given")]
    assert figure.count('<span class="box"') == 2
    assert '<span class="tag">box 1, bottom right</span>' in page
    assert '<span class="tag">box 2, top left</span>' in page


async def test_over_http_the_region_comes_in_the_same_reply_as_the_reason(model_server: Serve) -> None:
    with model_server("unused", good="finely") as server:
        server.box = [250, 0, 750, 500]
        [verdict] = await open_judge(config(server.address))(paint(ImageTask("poor", 0)), "three stars", [STAR])
    assert (verdict.outcome, verdict.reason) == (Outcome.SCORED, server.reason)
    assert verdict.region == (0.25, 0.0, 0.75, 0.5)
    asked = [body["response_format"]["json_schema"] for _, body in server.seen if "response_format" in body]
    assert [(form["strict"], form["schema"]["required"]) for form in asked] == [(True, ["reason", "verdict", "box"])]


async def test_over_http_plain_text_is_a_reason(model_server: Serve) -> None:
    plain = {"role": "assistant", "content": "There are\ntwo stars."}

    def wordy(path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes] | None:
        if body.get("logprobs") or not path.endswith("/chat/completions"):
            return None
        choice = {"index": 0, "finish_reason": "stop", "message": plain}
        return 200, json.dumps({"id": "1", "object": "chat.completion", "created": 1, "choices": [choice]}).encode()

    with model_server("unused", good="finely") as server:
        server.fault = wordy
        [verdict] = await open_judge(config(server.address))(paint(ImageTask("poor", 0)), "three stars", [STAR])
    assert (verdict.outcome, verdict.reason, verdict.region) == (Outcome.SCORED, "There are two stars.", None)
    assert verdict.probability == pytest.approx(0.2)
