"""The page looked at closely, on a server whose models are fakes and whose judge points."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.conftest import Painted
from tests.browser.driver import CHECKS, PLACE, SIZE
from tests.browser.test_page import answered, branch, say

pytestmark = pytest.mark.browser
NewPage = Callable[..., Any]
SCRIPTS = Path(__file__).with_name("scripts")
REGIONS = {check.question: region for check, region in CHECKS.items()}
MISSED, MET, WITHOUT = REGIONS


def wait(page: Any, test: str, what: Any = None) -> None:
    """Until a function of the page is true. Not `wait_for_function`: the page's policy lets it evaluate no text."""
    for _ in range(600):
        if page.evaluate(test, what):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it did not come true: {test}")


def unfold(article: Any) -> Any:
    """The turn's story, open."""
    story = article.locator("details")
    if story.get_attribute("open") is None:
        story.locator("summary").click()
    story.get_by_role("list", name="Verdicts").wait_for()
    return story


def place(box: Any, picture: Any) -> tuple[float, ...]:
    """Where a box lies on a picture: left, top, right, bottom, as fractions."""
    b, p = box.bounding_box(), picture.bounding_box()
    left, top = (b["x"] - p["x"]) / p["width"], (b["y"] - p["y"]) / p["height"]
    return (left, top, left + b["width"] / p["width"], top + b["height"] / p["height"])


def png(size: tuple[int, int] = (96, 96)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("width", [1280, 390])
def test_regions_are_drawn_where_the_verdicts_point_to(painted: Painted, new_page: NewPage, width: int) -> None:
    page = new_page(painted.url, viewport={"width": width, "height": 900})
    say(page, "three circles")
    article = answered(page, 1)
    whole = article.locator(".answer > div > .picture")
    wait(page, "() => document.querySelector('.answer .picture img').complete")
    assert whole.locator(".box").count() == 1, "what is missed is shown on the answer"
    assert place(whole.locator(".box"), whole.locator("img")) == pytest.approx(REGIONS[MISSED], abs=0.01)

    frame = unfold(article).locator(".frame")
    frame.locator(".picture img").scroll_into_view_if_needed()
    picture = frame.locator(".picture img").bounding_box()
    assert picture["width"] / picture["height"] == pytest.approx(SIZE[0] / SIZE[1], abs=0.02)
    for question in (MISSED, MET):
        box = frame.locator(f".box[data-key='{question}']")
        assert place(box, frame.locator(".picture img")) == pytest.approx(REGIONS[question], abs=0.01)
    assert frame.get_by_role("button").count() == 2, "the third verdict points nowhere"
    missed, met = (frame.locator(f".box[data-key='{question}']") for question in (MISSED, MET))
    button = frame.get_by_role("button", name=f"{MET} Show the place, at the bottom right of the picture.")
    assert (shown(missed), shown(met)) == (True, False)
    button.hover()
    assert shown(met)
    page.mouse.move(1, 1)
    assert not shown(met)
    button.focus()
    assert shown(met)
    page.keyboard.press("Space")
    button.blur()
    assert shown(met), "pressed, it stays"
    button.click()
    button.blur()
    page.mouse.move(1, 1)
    assert not shown(met)


def shown(box: Any) -> bool:
    return bool(box.evaluate("e => getComputedStyle(e).opacity") == "1")


def test_an_edit_its_slider_and_the_stories_of_both(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "a star")
    drawn = unfold(answered(page, 1))
    assert drawn.locator("summary").inner_text() == "Trace · 2 drawn in 1 round"
    strip = drawn.get_by_role("group", name="Attempts").get_by_role("button")
    strip.nth(0).click()
    drawn.get_by_role("group", name="Attempt 1").get_by_text("Prompt, in your own words").wait_for()
    strip.nth(1).click()
    drawn.get_by_role("group", name="Attempt 2").get_by_text("Thought").wait_for()
    assert drawn.get_by_text("Plan", exact=True).count() == 0

    say(page, "make the star blue")
    article = answered(page, 2)
    slider = article.get_by_role("slider", name="Slider between before and after")
    over, line = article.locator(".compare .over"), article.locator(".compare .line")
    assert slider.get_attribute("aria-valuetext") == "0% before, 100% after", "an edit opens on what it became"
    article.get_by_role("img", name="Before: Picture 2: make the star blue").wait_for()
    article.get_by_role("img", name="Picture 2: make the star blue", exact=True).wait_for()
    for key, value in (("ArrowRight", 1), ("ArrowLeft", 0), ("End", 100), ("Home", 0), ("PageUp", 10)):
        slider.press(key)
        assert slider.input_value() == str(value), key
    assert "10% before" in slider.get_attribute("aria-valuetext")
    assert over.evaluate("e => getComputedStyle(e).clipPath") == "inset(0px 90% 0px 0px)"
    picture = article.locator(".compare").bounding_box()
    page.mouse.click(picture["x"] + 0.7 * picture["width"], picture["y"] + 0.3 * picture["height"])
    assert float(slider.input_value()) == pytest.approx(70, abs=3)
    middle = line.bounding_box()["x"] + 1 - picture["x"]
    assert middle / picture["width"] == pytest.approx(float(slider.input_value()) / 100, abs=0.01)

    edited = unfold(article)
    assert edited.locator("summary").inner_text() == "Trace · 1 edited in 1 round"
    edited.get_by_text("Instruction", exact=True).wait_for()
    areas = edited.locator(".areas figure")
    assert [figure.inner_text() for figure in areas.all()] == ["Where, in white", "To come: a star"]
    assert all(shown(image) for image in areas.locator("img").all())
    plan = edited.get_by_role("button", name="one step")
    plan.focus()
    mark = edited.locator(".box.place")
    assert shown(mark)
    assert place(mark, edited.locator(".frame .picture img")) == pytest.approx(PLACE, abs=0.01)

    branch(page)
    copied = unfold(answered(page, 2))
    copied.get_by_role("button", name="one step").wait_for()
    assert copied.locator("summary").inner_text() == "Trace · 1 edited in 1 round"


def test_questions_undo_and_comparison(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "a star")
    answered(page, 1)
    say(page, "two hearts")
    asked = page.get_by_role("group", name="A question")
    asked.get_by_role("button", name="change this one").wait_for()
    assert page.get_by_role("textbox").get_attribute("placeholder") == "Your answer"
    asked.get_by_role("button", name="a new picture").click()
    article = answered(page, 2)
    assert "two hearts" in article.locator(".request").inner_text()
    assert article.get_by_text("Shall I draw a new picture").is_visible()
    assert page.evaluate("document.activeElement.id") == "words", "the button is gone, the focus is not"
    say(page, "three hearts")
    asked.get_by_role("button", name="a new picture").wait_for()
    say(page, "change this one")
    article = answered(page, 3)
    article.get_by_role("slider").wait_for()
    page.get_by_role("button", name="Undo", exact=True).click()
    answered(page, 4).get_by_text("back at picture 2").wait_for()
    article.get_by_role("button", name="Compare with picture 2").click()
    compared = answered(page, 5)
    assert "Compare picture 2 with picture 3" in compared.locator(".request").inner_text()
    assert compared.get_by_role("slider").get_attribute("aria-label") == "Slider between picture 2 and picture 3"
    wait(
        page,
        """() => {
          const box = (name) => document.querySelector(name).getBoundingClientRect();
          const [turn, field] = [box("#turns > :last-child"), box("#composer")];
          return turn.top > 40 && turn.bottom < field.top + 1;
        }""",
    )
    article.get_by_role("button", name="Back to picture 3").click()
    answered(page, 6).get_by_text("back at picture 3").wait_for()


def test_a_picture_is_dropped_and_pasted(painted: Painted, new_page: NewPage, tmp_path: Path) -> None:
    page = new_page(painted.url)
    page.get_by_role("heading", name="New conversation").wait_for()
    file = tmp_path / "dropped.png"
    file.write_bytes(png())
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    devtools = page.context.new_cdp_session(page)

    def drag(kind: str) -> None:
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 640, "y": 400, "data": data})

    drag("dragEnter")
    drag("dragOver")
    page.get_by_text("Drop the picture anywhere").wait_for()
    drag("dragCancel")
    page.get_by_text("Drop the picture anywhere").wait_for(state="hidden")
    drag("dragEnter")
    drag("dragOver")
    drag("drop")
    attached = page.get_by_role("img", name="your picture")
    attached.wait_for()
    page.get_by_text("Drop the picture anywhere").wait_for(state="hidden")
    page.get_by_role("button", name="Remove: your picture").click()
    attached.wait_for(state="hidden")

    page.evaluate(
        """async (data) => {
          const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
          await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
        }""",
        base64.b64encode(png()).decode(),
    )
    page.get_by_role("textbox").press("Control+v")
    attached.wait_for()
    page.get_by_text("The picture is attached").wait_for(state="attached")
    say(page, "make the star red")
    article = answered(page, 1)
    article.get_by_role("img", name="Your picture").wait_for()
    article.get_by_role("slider").wait_for()
    assert page.locator("#attached img").count() == 0


def test_escape_and_the_mask_by_keys(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "a star")
    answered(page, 1)
    button, dialog = page.get_by_role("button", name="Mask", exact=True), page.get_by_role("dialog")

    def board() -> Any:
        button.click()
        page.locator(f"#mask-canvas[width='{SIZE[0]}']").wait_for()
        return page.locator("#mask-canvas")

    board().focus()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert button.evaluate("e => e === document.activeElement")
    assert page.get_by_role("img", name="your mask").count() == 0
    board().focus()
    assert page.locator("#mask-brush").evaluate("e => getComputedStyle(e).opacity") == "1"
    for key in ("ArrowRight", "Space", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    with page.expect_response(lambda r: "mask=true" in r.url) as sent:
        dialog.get_by_role("button", name="Use mask").click()
    kept = page.request.get(f"{painted.url}/api/images/{sent.value.json()['image']}").body()
    mask = Image.open(io.BytesIO(kept)).convert("L")
    assert mask.size == SIZE
    assert [mask.getpixel(at) for at in ((173, 80), (173, 90), (20, 20))] == [255, 255, 0]
    page.get_by_role("img", name="your mask").wait_for()
    board().focus()  # all that was painted is gone again: there is no mask to be used
    page.keyboard.press("Space")
    dialog.get_by_role("button", name="Clear").click()
    dialog.get_by_role("button", name="Use mask").click()
    dialog.wait_for(state="hidden")

    with painted.holding("heart"):
        say(page, "/draw a heart")
        page.get_by_role("button", name="Cancel", exact=True).wait_for()
        page.keyboard.press("Escape")
        answered(page, 2)
    page.get_by_role("button", name="Delete:").first.click()
    dialog.get_by_role("button", name="Keep").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.get_by_role("article").count() == 2

    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Close the list").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Close the list").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "side-open"


def test_two_conversations_at_once_and_the_one_that_waits(painted: Painted, new_page: NewPage) -> None:
    one, two = new_page(painted.url), new_page(painted.url)
    with painted.holding("star"):
        say(one, "a star")
        one.get_by_text("Drawing", exact=True).first.wait_for()
        say(two, "three circles")
        two.locator(".step").get_by_text("Waiting: 2 pictures are drawn first").wait_for()
        assert two.locator("#live").inner_text() == "Waiting: 2 pictures are drawn first"
        two.reload()
        two.locator(".step").get_by_text("Waiting: 2 pictures are drawn first").wait_for()
    for page in (one, two):
        answered(page, 1)
        page.get_by_text("Waiting:").first.wait_for(state="detached")


def test_unchecked_words_and_warnings_stand_under_the_picture(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "a star")
    accepted = answered(page, 1)
    assert accepted.locator(".result .badge").inner_text() == "accepted"
    assert accepted.get_by_text("Nothing checks").count() == 0
    say(page, "/draw a star and a boat")

    def is_named() -> None:
        left = answered(page, 2)
        left.get_by_text("Nothing checks: <b>boat</b>, sea", exact=True).wait_for()
        assert left.locator(".result .badge").inner_text() == "not accepted"
        assert left.inner_text().lower().count("nothing checks") == 1, "it is said once"

    is_named()
    warned = answered(page, 2).get_by_text("no check asks about <i>boat</i>", exact=True)
    warned.first.wait_for()
    answered(page, 2).locator("summary").get_by_text("Trace").click()
    answered(page, 2).locator(".trace .strip").wait_for()
    assert warned.count() == 1, "and not once more in the trace"
    say(page, "/accept")
    answered(page, 3).get_by_text("picture 2 is taken; nothing checks: <b>boat</b>, sea", exact=True).wait_for()
    branch(page)  # pictures as the conversation keeps them
    is_named()


@pytest.mark.parametrize("width", [320, 360, 800])
def test_nothing_is_wider_than_the_screen(painted: Painted, new_page: NewPage, width: int) -> None:
    page = new_page(painted.url, viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)

    def fits() -> None:
        assert page.evaluate("[document.documentElement.scrollWidth <= innerWidth, innerWidth]") == [True, width]
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#scroll'))")

    fits()
    page.get_by_role("button", name="Options").click()
    fits()
    with painted.holding("once more"):  # in the second round
        say(page, f"three circles, {'very' * 60} round")
        story = page.get_by_role("article", name="Turn 1")
        story.get_by_role("list", name="Verdicts").wait_for()
        page.get_by_text("Drawing, round 2").first.wait_for()
        fits()
        page.evaluate("() => (document.querySelector('#link').dataset.state = 'lost')")
        page.evaluate("() => (document.querySelector('#link').textContent = 'Connection lost, trying again')")
        fits()
    unfold(answered(page, 1))
    fits()
    say(page, f"two {'hearts' * 40}")
    page.get_by_role("group", name="A question").wait_for()
    fits()
    for name in ("Mask", "Delete:"):
        if name == "Delete:" and width < 760:
            page.get_by_role("button", name="Conversations").click()
        page.get_by_role("button", name=name).first.click()
        page.get_by_role("dialog").last.wait_for()
        fits()
        page.keyboard.press("Escape")


@pytest.fixture(params=["light", "dark"])
def full(request: pytest.FixtureRequest, painted: Painted, new_page: NewPage) -> Any:
    """A page on which there is something of everything, in both themes."""
    page = new_page(painted.url, color_scheme=request.param)
    say(page, "three circles")
    unfold(answered(page, 1))
    say(page, "make the circles red")
    unfold(answered(page, 2))
    say(page, "two hearts")
    page.get_by_role("group", name="A question").wait_for()
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png()})
    page.get_by_role("img", name="your picture").wait_for()
    page.get_by_role("button", name="Options").click()
    page.get_by_role("textbox", name="What to draw or change").press("Enter")
    page.get_by_role("alert").get_by_text("Say what to do with the picture").wait_for()
    return page


def test_text_stands_out_from_what_it_lies_on(full: Any) -> None:
    script = (SCRIPTS / "contrast.js").read_text()
    seen = full.evaluate(script)
    assert len(seen) > 60, "there is text to look at"
    weak = [one for one in seen if one["ratio"] < one["least"]]
    assert weak == []
    for button, dialog in (("Mask", "masking"), ("Delete:", "sure")):
        full.get_by_role("button", name=button).first.click()
        full.locator(f"#{dialog}[open]").wait_for()
        seen = full.evaluate(script, f"#{dialog}")
        assert seen
        assert [one for one in seen if one["ratio"] < one["least"]] == []
        full.keyboard.press("Escape")


def test_whoever_has_the_focus_is_seen(full: Any) -> None:
    full.evaluate("() => document.activeElement.blur()")
    script = (SCRIPTS / "focus.js").read_text()
    seen = []
    for _ in range(120):
        full.keyboard.press("Tab")
        one = full.evaluate(script)
        if seen and one and one["name"] == seen[0]["name"]:
            break
        if one is not None:  # else it is the browser that has it
            seen.append(one)
    assert len(seen) > 25
    assert [one for one in seen if one["width"] < 1 or one["ratio"] < 3] == []


def test_names_headings_language_and_alternatives(full: Any) -> None:
    tree = full.context.new_cdp_session(full).send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "textbox", "slider", "spinbutton", "checkbox", "image", "group", "article", "dialog"}
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert {"button", "link", "textbox", "slider", "spinbutton", "checkbox"} <= {n["role"]["value"] for n in nodes}
    # A story's own group is named by its summary, which is a control within it.
    nameless = [n for n in nodes if not n["name"]["value"].strip() and n["role"]["value"] not in ("group",)]
    assert nameless == []
    levels = full.eval_on_selector_all("#app :is(h1, h2, h3, h4)", "all => all.map(e => Number(e.tagName[1]))")
    assert levels[:3] == [1, 2, 3]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert full.evaluate("document.documentElement.lang") == "en"
    assert full.locator("img:not([alt])").count() == 0
    assert full.locator("#turns img[alt='']").evaluate_all("all => all.every(e => e.closest('button'))")


def test_progress_is_told_to_who_does_not_see_it(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    page.evaluate(
        """() => {
          window.told = [];
          new MutationObserver(() => window.told.push(document.querySelector("#live").textContent))
            .observe(document.querySelector("#live"), {childList: true, characterData: true, subtree: true});
        }"""
    )
    assert page.locator("#live").get_attribute("aria-live") == "polite"
    with painted.holding("circles"):
        say(page, "three circles")
        wait(page, "() => window.told.includes('Drawing')")
    answered(page, 1)
    told = page.evaluate("window.told")
    assert [one for one in told if one.startswith("Attempt 1: score")]
    assert told[-1].startswith("picture 1: score")
