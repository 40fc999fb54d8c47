"""trace.html: it tells the story, needs nothing from elsewhere, and runs nothing that a prompt smuggles in."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from agent.run import Run, RunResult
from agent.testing import Opinion, fake_models
from agent.trace import chart
from evaluator.types import Check, Outcome
from redraft.limits import Limits
from rewriter.testing import FakeRewriter
from rewriter.types import Rewrite

EVIL = 'circles <script>alert(1)</script> <img src=x onerror=alert(2)> "><svg onload=alert(3)> {{ 7*7 }} javascript:x'


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def story(out: Path, opinion: Opinion, **limits: float) -> tuple[RunResult, Page]:
    checks = (Check("counting", f"Is this right? {EVIL}"), Check("negation", "No squares?"))
    rewriter = FakeRewriter(lambda call: [Rewrite(f"better {EVIL}", thought=f"hm {EVIL}", findings=(EVIL,))])
    models = fake_models(opinion, rewriter=rewriter, checks=checks)
    session = Run.start(EVIL, models, limits=Limits(**limits), out=out, seed=1)  # type: ignore[arg-type]
    async for _ in session.stream():
        pass
    assert session.result is not None
    return session.result, Page(session.result.trace.read_text())


async def test_words_of_users_and_models_stay_words(tmp_path: Path) -> None:
    _, page = await story(tmp_path, lambda prompt, seed: (0.3, Outcome.FAILED), max_rounds=2)
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert "{{ 7*7 }}" in "".join(page.texts)
    assert all((attributes.get("src") or "data:image/").startswith("data:image/") for _, attributes in page.tags)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy


async def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    result, _ = await story(tmp_path, lambda prompt, seed: (0.9, 0.8), max_rounds=2)
    text = result.trace.read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "url(" not in text
    assert "@import" not in text


async def test_the_story_is_all_there(tmp_path: Path) -> None:
    result, page = await story(tmp_path, lambda prompt, seed: (0.9, 0.2), max_rounds=2)
    text = " ".join(" ".join(page.texts).split())
    assert f"hm {' '.join(EVIL.split())}" in text
    assert "Round 2" in text
    assert "90%" in text
    assert "20%" in text
    assert "Stopped: budget spent" in text
    assert "Another round: 1 of 2 checks did not pass" in text
    assert sum(tag == "img" for tag, _ in page.tags) == len(result.attempts) + 1


async def test_a_picture_that_is_gone_does_not_break_the_page(tmp_path: Path) -> None:
    result, _ = await story(tmp_path, lambda prompt, seed: (0.9, 0.2), max_rounds=1)
    result.images[0].unlink()
    again = Run.open(result.folder, fake_models(lambda prompt, seed: (0.9, 0.2)))
    async for _ in again.stream():
        pass
    assert f"{result.images[0].name} is gone" in result.trace.read_text()


def test_the_chart_follows_the_best_score_and_leaves_unscored_pictures_out() -> None:
    drawn = chart([(1, 0.2), (1, None), (2, 0.8), (2, 0.5)], 0.9)
    assert drawn is not None
    assert [dot["score"] for dot in drawn["dots"]] == [0.2, 0.8, 0.5]
    heights = [float(point.split(",")[1]) for point in drawn["line"].split()]
    assert heights[0] == heights[1] > heights[2] == heights[3]
    assert chart([(1, 0.2), (1, None)], 0.9) is None
