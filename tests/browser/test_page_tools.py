"""What stands around the pictures: seeds, copies, the full size, the queue, the gallery, names; and axe-core over all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Painted
from tests.browser.test_page import answered, branch, say
from tests.browser.test_page_closely import unfold, wait

pytestmark = pytest.mark.browser
NewPage = Callable[..., Any]


def test_a_picture_is_drawn_again_and_its_seed_taken_up(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "three circles")
    first = answered(page, 1)
    seed = first.locator(".words").inner_text().rpartition("seed ")[2]
    first.get_by_role("button", name="Reuse seed").click()
    assert page.get_by_label("Seed").input_value() == seed
    field = page.get_by_role("textbox", name="What to draw or change")
    assert field.input_value() == "three circles"
    say(page, "/draw a star")
    second = answered(page, 2)
    assert second.locator(".words").inner_text().endswith(f"seed {seed}")
    assert page.get_by_label("Seed").input_value() == "", "the seed was for one message"
    second.get_by_role("button", name="Again", exact=True).click()
    third = answered(page, 3)
    third.locator(".request").get_by_text("Again").wait_for()
    assert not third.locator(".words").inner_text().endswith(f"seed {seed}")
    third.get_by_role("img", name="Picture 3: a star").wait_for()
    third.get_by_role("button", name="Again", exact=True).wait_for()
    branch(page)  # a copy has replies, and traces once they are unfolded
    copied = answered(page, 2)
    assert copied.get_by_role("button", name="Reuse seed").count() == 0
    unfold(copied)
    copied.get_by_role("button", name="Reuse seed").wait_for()


def test_what_is_set_for_a_message_is_sent_and_what_cannot_be_done_is_said(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url, offline=True)  # a refusal stands in the console
    page.get_by_role("button", name="Options").click()
    page.get_by_role("combobox", name="Size").fill("no size")
    say(page, "a star")
    page.get_by_role("alert").get_by_text("is no size").wait_for()
    field = page.get_by_role("textbox", name="What to draw or change")
    assert field.input_value() == "a star", "nothing that was typed is lost"
    page.get_by_role("combobox", name="Size").fill("")
    page.get_by_role("combobox", name="Search").select_option("best_of")
    page.get_by_label("Pictures").fill("3")
    with page.expect_request(lambda r: r.url.endswith("/turns")) as sent:
        say(page, "a star")
    assert sent.value.post_data_json["options"] == {"max_images": 3, "search": "best_of"}
    answered(page, 1)
    assert page.get_by_role("combobox", name="Search").input_value() == "", "a search is for one message"
    assert page.get_by_label("Pictures").input_value() == "3", "the budget stays"


def test_prompt_and_picture_are_copied_and_seen_in_full_size(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url, permissions=["clipboard-read", "clipboard-write"])
    say(page, "a star")
    article = answered(page, 1)
    article.get_by_role("button", name="Copy prompt").click()
    page.get_by_text("The prompt is on the clipboard").wait_for(state="attached")
    assert "star" in page.evaluate("navigator.clipboard.readText()")
    article.get_by_role("button", name="Copy picture").click()
    page.get_by_text("The picture is on the clipboard").wait_for(state="attached")
    kinds = "navigator.clipboard.read().then((all) => all.flatMap((one) => one.types))"
    assert "image/png" in page.evaluate(kinds)
    article.get_by_role("button", name="Full size").click()
    whole = page.get_by_role("dialog").get_by_role("img", name="Picture 1: a star")
    wait(page, "() => document.querySelector('#full-picture').naturalWidth === 320")
    assert whole.bounding_box()["width"] == 320
    page.keyboard.press("Escape")
    whole.wait_for(state="hidden")


def test_messages_wait_for_the_turn_under_way(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    waiting = page.get_by_role("list", name="Messages that wait")
    with painted.holding("heart"):
        say(page, "a heart")
        page.get_by_role("button", name="Cancel", exact=True).wait_for()
        for text in ("make it blue", "never sent", "undo"):
            say(page, text)
        waiting.get_by_role("listitem").nth(2).wait_for()
        page.get_by_role("button", name="Remove from the queue: never sent").click()
        waiting.get_by_text("never sent").wait_for(state="hidden")
    answered(page, 3).get_by_text("back at picture 1").wait_for()
    answered(page, 2).locator(".request").get_by_text("make it blue").wait_for()
    waiting.wait_for(state="hidden")
    with painted.holding("circle"):
        say(page, "/draw a circle")
        page.get_by_role("button", name="Cancel", exact=True).wait_for()
        say(page, "/back 1")
        waiting.get_by_text("Next").wait_for()
        page.keyboard.press("Escape")
        # Stopped before there was a picture, which is no success: what waits is held.
        page.get_by_role("button", name="Send now").click()
    answered(page, 5).get_by_text("back at picture 1").wait_for()


def test_a_conversation_is_renamed_and_found_in_the_gallery(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    say(page, "a star")
    answered(page, 1)
    page.get_by_role("button", name="a star , rename").click()
    page.get_by_label("Title").fill("Sky <i>and</i> sea")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Sky <i>and</i> sea").wait_for()
    page.get_by_role("button", name="Gallery").click()
    search = page.get_by_role("searchbox", name="Search")
    search.fill("SKY star")
    page.get_by_role("status").get_by_text("1 picture", exact=True).wait_for()
    search.fill("nothing like it")
    page.get_by_text("No picture has “nothing like it”.").wait_for()
    search.fill("<i>and</i>")
    link = page.get_by_role("list", name="Gallery").get_by_role("link")
    page.get_by_role("status").get_by_text("1 picture", exact=True).wait_for()
    link.get_by_text("Picture 1 · ").get_by_text("· accepted").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="New conversation").click()
    page.get_by_text("Say what you want to see.").wait_for()
    page.get_by_role("button", name="Gallery").click()
    search.fill("sky")
    link.first.click()
    answered(page, 1)


def test_a_profile_is_chosen_and_says_what_it_does(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    choice = page.get_by_role("combobox", name="Profile")
    choice.select_option("drawing alone")
    page.get_by_text("drawing alone: It draws, and changes no pictures.").wait_for()
    say(page, "a star")
    answered(page, 1)
    assert page.locator("#of").inner_text() == "drawing alone"
    conversation = page.url.split("#")[1]
    assert page.request.get(f"{painted.url}/api/conversations/{conversation}").json()["profile"] == "drawing alone"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 320)])
def test_axe_finds_nothing(painted: Painted, new_page: NewPage, scheme: str, width: int) -> None:
    page = new_page(painted.url, color_scheme=scheme, viewport={"width": width, "height": 800})
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()

    def clean() -> None:
        found = axe.run(page).response["violations"]
        wrong = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
        assert wrong == []

    page.get_by_text("Say what you want to see.").wait_for()
    clean()
    say(page, "three circles and a boat")
    unfold(answered(page, 1))
    say(page, "make the star blue")
    unfold(answered(page, 2))
    page.get_by_role("button", name="Options").click()
    clean()
    answered(page, 2).get_by_role("button", name="Full size").click()
    clean()
    page.keyboard.press("Escape")
    if width < 760:
        page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="Gallery").click()
    page.locator("#gallery-pictures img").first.wait_for()
    clean()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_several_pictures_of_a_message_are_looked_at_one_by_one(painted: Painted, new_page: NewPage) -> None:
    page = new_page(painted.url)
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Variants").fill("2")
    page.get_by_label("Seed").fill("7")
    say(page, "a star")
    turn = answered(page, 1)
    pictures = turn.get_by_role("group", name="Pictures of this message").get_by_role("button")
    assert pictures.count() == 2
    for number, seed in ((2, "8"), (1, "7")):
        turn.get_by_role("button", name=f"Picture {number},").click()
        turn.get_by_role("img", name=f"Picture {number}: a star").wait_for()
        turn.get_by_role("button", name="Reuse seed").click()
        assert page.get_by_label("Seed").input_value() == seed
    page.reload()
    assert answered(page, 1).get_by_role("group", name="Pictures of this message").get_by_role("button").count() == 2
