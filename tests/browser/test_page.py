"""The page, by clicking and typing, on a real server with the mini models."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.conftest import READY_S, TOKEN, serve
from tests.serve.processes import Process

pytestmark = pytest.mark.browser
STARS = "two little red stars over a big blue circle, on mint paper"


def say(page: Any, text: str) -> None:
    field = page.get_by_role("textbox", name="What to draw or change")
    field.fill(text)
    field.press("Enter")


def answered(page: Any, turn: int) -> Any:
    """The article of a turn, once its reply is there."""
    article = page.get_by_role("article", name=f"Turn {turn}", exact=True)
    article.locator(".words, .warning").first.wait_for()
    return article


def branch(page: Any) -> None:
    """Goes on in a copy; until that is what the page shows."""
    here = page.url
    page.get_by_role("button", name="Branch").click()
    page.wait_for_url(lambda url: url != here)
    page.locator(f"#conversations a[aria-current='page'][href='#{page.url.split('#')[1]}']").wait_for()


def cheaply(page: Any) -> None:
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Rounds").fill("1")
    page.get_by_label("Pictures").fill("2")


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (96, 96), "teal").save(file, "PNG")
    return file.getvalue()


def test_a_conversation_by_clicking_and_typing(server: Process, new_page: Callable[..., Any]) -> None:
    page = new_page(server.url)
    cheaply(page)
    say(page, STARS)
    page.get_by_role("button", name="Cancel").wait_for()
    first = answered(page, 1)
    first.get_by_role("img", name="Picture 1").first.wait_for()
    assert "score" in page.locator("#live").inner_text()
    first.locator("summary").click()
    strip = first.get_by_role("group", name="Attempts").get_by_role("button")
    assert strip.count() == 2
    strip.nth(0).click()
    page.keyboard.press("ArrowRight")
    assert strip.nth(1).get_attribute("aria-pressed") == "true"
    assert strip.nth(1).evaluate("e => e === document.activeElement")
    assert first.get_by_role("list", name="Verdicts").get_by_role("listitem").count() >= 3
    assert first.get_by_role("img", name="Scores").is_visible()

    say(page, "make the circle yellow")
    second = answered(page, 2)
    second.get_by_role("slider", name="Slider between before and after").press("Home")
    assert "edited in" in second.locator("summary").inner_text()
    page.get_by_role("button", name="Compare with picture 1").click()
    third = answered(page, 3)
    third.get_by_role("slider").press("ArrowRight")
    assert third.get_by_role("slider").input_value() == "51"
    page.get_by_role("textbox", name="What to draw or change").press("Control+z")
    answered(page, 4)
    assert page.get_by_role("article").count() == 4

    branch(page)
    copied = answered(page, 1)
    copied.locator("summary").click()
    copied.get_by_role("list", name="Verdicts").wait_for()
    page.get_by_role("button", name="Delete:").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("Say what you want to see.").wait_for()


def test_reload_in_the_middle_and_a_second_tab(server: Process, new_page: Callable[..., Any]) -> None:
    page = new_page(server.url)
    cheaply(page)
    say(page, STARS)
    page.wait_for_url(lambda url: "#c" in url)
    page.get_by_role("article").first.wait_for()  # the turn is under way
    other = new_page(page.url)
    page.reload()
    for tab in (page, other):
        answered(tab, 1).get_by_role("img", name="Picture 1").first.wait_for()
        assert tab.get_by_role("article").count() == 1
    say(other, "/undo")
    answered(page, 2)


def test_a_lost_connection(new_page: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path) as own:
        page = new_page(own.url, offline=True)
        cheaply(page)
        say(page, STARS)
        page.get_by_role("article").first.wait_for()  # the turn is under way
        assert own.process is not None
        own.process.kill()
        own.process.wait(60)
        page.get_by_text("Connection lost").wait_for()
        own.start(READY_S)
        page.get_by_text("Connected").wait_for()
        article = answered(page, 1)
        article.get_by_role("img", name="Picture 1").first.wait_for()


def test_an_upload_a_mask_and_markup(server: Process, new_page: Callable[..., Any]) -> None:
    page = new_page(server.url)
    page.get_by_role("heading", name="New conversation").wait_for()  # the page has begun to listen
    page.locator("#file").set_input_files(
        {"name": "<img src=x onerror=alert(1)>.png", "mimeType": "image/png", "buffer": png()}
    )
    page.get_by_role("img", name="your picture").wait_for()
    page.get_by_role("button", name="Mask", exact=True).click()
    board = page.locator("#mask-canvas")
    page.locator(
        "#mask-canvas[width='96']"
    ).wait_for()  # not by a function: the page's policy lets nobody evaluate text
    box = board.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 120, steps=4)
    page.mouse.up()
    with page.expect_response(lambda r: "mask=true" in r.url) as sent:
        page.get_by_role("button", name="Use mask").click()
    assert sent.value.status == 201
    hash = sent.value.json()["image"]
    mask = Image.open(io.BytesIO(page.request.get(f"{server.url}/api/images/{hash}").body())).convert("L")
    assert mask.size == (96, 96)
    assert 0 < sum(v > 128 for v in mask.tobytes()) < 96 * 96 / 2
    said = "/ask <img src=x onerror=alert(1)><script>alert(2)</script> what is it?"
    say(page, said)
    article = answered(page, 1)
    assert said in article.locator(".request").inner_text()
    article.get_by_role("img", name="Your picture").wait_for()
    assert page.locator("article script, img[src='x']").count() == 0


def test_login_with_a_token(new_page: Callable[..., Any], tmp_path: Path) -> None:
    with serve(tmp_path, {"REDRAFT_TOKENS": f"ada:{TOKEN}"}) as own:
        page = new_page(own.url, offline=True, viewport={"width": 390, "height": 844})
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").get_by_text("not a token").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="New conversation").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_landmarks_names_and_policy(server: Process, new_page: Callable[..., Any]) -> None:
    page = new_page(server.url, color_scheme="dark")
    for role, name in (("main", None), ("navigation", "Conversations"), ("textbox", "What to draw or change")):
        page.get_by_role(role, name=name).first.wait_for()
        assert page.get_by_role(role, name=name).count() == 1, role
    nameless = page.eval_on_selector_all(
        "button, a, input:not([aria-hidden])",
        "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)",
    )
    assert nameless == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 248, 244)"
    policy = page.request.get(server.url).headers["content-security-policy"]
    assert "script-src 'self';" in policy
