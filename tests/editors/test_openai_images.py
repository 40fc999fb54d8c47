"""OpenAIImagesBackend against a real HTTP server on this machine, with every fault a server can have."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import pytest
from PIL import Image

from editors.backend import ImageTask, open_backend
from editors.openai_images import OpenAIImagesBackend
from redraft.errors import BackendError, BadReply, ConfigError, InputError, ServerError
from redraft.profiles import BackendConfig, ServerConfig

KEY = "sk-secret-0123456789"


Server = Any  # the server of conftest.py, whose `reply` each test sets


def png(color: str = "red", size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def picture(color: str = "red", size: tuple[int, int] = (32, 32)) -> dict[str, object]:
    return {"created": 1, "data": [{"b64_json": base64.b64encode(png(color, size)).decode()}]}


@pytest.fixture
def server(image_server: Server) -> Server:
    image_server.reply = lambda _, __: (200, picture(), {})
    return image_server


def backend(server: Server | str, **settings: Any) -> OpenAIImagesBackend:
    url = server if isinstance(server, str) else server.url
    options = {"base_url": url, "timeout_s": 5.0, "max_retries": 2, "concurrency": 4}
    options |= {name: settings.pop(name) for name in list(settings) if name in ServerConfig.model_fields}
    return OpenAIImagesBackend(
        BackendConfig(kind="openai_images", model="painter", server=ServerConfig(**options), **settings)
    )


def test_a_dead_server_of_several_costs_no_picture(server: Server) -> None:
    settings = ServerConfig.model_validate({"base_urls": ["http://127.0.0.1:9/v1", server.url], "max_retries": 0})
    drawing = OpenAIImagesBackend(BackendConfig(kind="openai_images", model="painter", server=settings))
    assert len(drawing.render([ImageTask("red", seed) for seed in range(4)])) == 4


def test_pictures_come_in_the_order_of_the_tasks(server: Server) -> None:
    def reply(_: str, fields: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        time.sleep(0.05 * (3 - fields["seed"]))  # the last asked is the first done
        return 200, picture(fields["prompt"]), {}

    server.reply = reply
    done: list[tuple[int, int]] = []
    pictures = backend(server).render(
        [ImageTask("red", 0), ImageTask("lime", 1), ImageTask("blue", 2)], lambda *step: done.append(step)
    )
    assert [image.getpixel((0, 0)) for image in pictures] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert all(image.mode == "RGB" and image.size == (32, 32) for image in pictures)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_settings_reach_the_server(server: Server) -> None:
    task = ImageTask("a fox", 7, size=(64, 32), negative_prompt="blurry")
    (image,) = backend(server, steps=9, guidance=2.5).render([task])
    (asked,) = server.fields()
    assert asked == {
        "model": "painter",
        "prompt": "a fox",
        "n": 1,
        "response_format": "b64_json",
        "size": "64x32",
        "seed": 7,
        "negative_prompt": "blurry",
        "num_inference_steps": 9,
        "guidance_scale": 2.5,
    }
    assert image.size == (64, 32), "the server drew 32x32; the task's size counts"


def test_requests_run_side_by_side_but_not_more_than_allowed(server: Server) -> None:
    three = threading.Barrier(3)

    def slow(_: str, __: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        three.wait(60)  # nobody is answered before three have asked
        return 200, picture(), {}

    server.reply = slow
    assert len(backend(server, concurrency=3).render([ImageTask("x", seed) for seed in range(9)])) == 9
    assert server.most_at_once == 3


def test_an_edit_sends_its_source(server: Server) -> None:
    source = Image.new("RGB", (40, 30), "green")
    server.reply = lambda _, __: (200, picture("blue", (80, 60)), {})
    (image,) = backend(server, strength=0.5).render([ImageTask("make it blue", 3, source=source)])
    ((path, asked, _),) = server.asked
    assert path == "/v1/images/edits"
    assert Image.open(io.BytesIO(asked["image"])).getpixel((5, 5)) == (0, 128, 0)
    assert (asked["prompt"], asked["seed"], asked["strength"], asked["size"]) == ("make it blue", "3", "0.5", "40x30")
    assert image.size == (40, 30)
    assert image.getpixel((5, 5)) == (0, 0, 255)


def test_an_edit_sends_further_pictures_as_a_list(server: Server) -> None:
    source, hat, scarf = (Image.new("RGB", (8, 8), color) for color in ("green", "red", "blue"))
    backend(server, image_guidance=1.5).render([ImageTask("dress it", 3, source=source, references=(hat, scarf))])
    (asked,) = server.fields()
    assert "image" not in asked
    sent = [Image.open(io.BytesIO(data)).getpixel((0, 0)) for data in asked["image[]"]]
    assert sent == [(0, 128, 0), (255, 0, 0), (0, 0, 255)], "the one to edit comes first"
    assert asked["image_guidance_scale"] == "1.5"


def test_a_large_source_is_sent_smaller(server: Server) -> None:
    source, mask = Image.new("RGB", (4096, 2048), "green"), Image.new("L", (4096, 2048), 0)
    mask.paste(255, (0, 0, 2048, 2048))
    server.reply = lambda _, __: (200, picture("blue", (64, 32)), {})
    (image,) = backend(server).render([ImageTask("a pond", 3, source=source, mask=mask)])
    (asked,) = server.fields()
    sizes = [Image.open(io.BytesIO(asked[name])).size for name in ("image", "mask")]
    assert sizes == [(2896, 1448)] * 2
    assert asked["size"] == "2896x1448"
    assert image.size == (4096, 2048)
    assert (image.getpixel((9, 9)), image.getpixel((4000, 9))) == ((0, 0, 255), (0, 128, 0))


def test_inpainting_keeps_what_is_outside_the_mask(server: Server) -> None:
    source = Image.new("RGB", (40, 40), "green")
    mask = Image.new("L", (40, 40), 0)
    mask.paste(255, (0, 0, 20, 40))
    server.reply = lambda _, __: (200, picture("blue", (40, 40)), {})
    (image,) = backend(server).render([ImageTask("a pond", 3, source=source, mask=mask)])
    sent = Image.open(io.BytesIO(server.fields()[0]["mask"]))
    assert sent.mode == "RGBA"
    assert sent.getpixel((5, 5)) == (255, 255, 255, 0), "to change: white and transparent"
    assert sent.getpixel((35, 5)) == (0, 0, 0, 255)
    assert (image.getpixel((5, 5)), image.getpixel((35, 5))) == ((0, 0, 255), (0, 128, 0))


@pytest.mark.parametrize(
    "complaint",
    [
        {"error": {"message": "Unknown parameter: 'seed'.", "param": "seed", "code": "unknown_parameter"}},
        {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
    ],
)
def test_a_field_that_is_refused_is_left_out_from_then_on(server: Server, complaint: dict[str, Any]) -> None:
    server.reply = lambda _, fields: (400, complaint, {}) if "seed" in fields else (200, picture(), {})
    painter = backend(server)
    assert len(painter.render([ImageTask("x", 1)])) == 1
    assert len(painter.render([ImageTask("x", 2)])) == 1
    assert [("seed" in fields, "response_format" in fields) for fields in server.fields()] == [
        (True, True),
        (False, True),
        (False, True),
    ]


def test_a_server_that_names_no_field_gets_the_plain_request(server: Server) -> None:
    plain = {"model", "prompt", "n"}
    server.reply = lambda _, fields: (422, {"detail": "bad"}, {}) if fields.keys() - plain else (200, picture(), {})
    assert len(backend(server).render([ImageTask("x", 1, size=(32, 32))])) == 1
    assert server.fields()[-1].keys() == plain


def test_a_refused_prompt_is_no_refused_field(server: Server) -> None:
    blocked = {"error": {"message": "the prompt is not allowed", "code": "moderation_blocked"}}
    server.reply = lambda _, fields: (400, blocked, {}) if fields["prompt"] == "bad" else (200, picture(), {})
    painter = backend(server)
    with pytest.raises(ServerError, match="not allowed"):
        painter.render([ImageTask("bad", 1)])
    painter.render([ImageTask("good", 2)])
    assert server.fields()[-1]["seed"] == 2, "the seed was not to blame"
    before = len(server.asked)
    with pytest.raises(ServerError, match="not allowed"):
        painter.render([ImageTask("bad", 1)])
    assert len(server.asked) == before + 1, "every field is known to be good: no second try"


@pytest.mark.parametrize("status", [500, 503, 408])
def test_server_errors_are_tried_again(server: Server, status: int) -> None:
    server.reply = lambda _, __: (status, {"error": "busy"}, {}) if len(server.asked) < 3 else (200, picture(), {})
    assert len(backend(server).render([ImageTask("x", 1)])) == 1
    assert len(server.asked) == 3


def test_retries_end(server: Server) -> None:
    server.reply = lambda _, __: (500, b"<h1>Internal Server Error</h1>", {"Content-Type": "text/html"})
    with pytest.raises(ServerError, match=r"500.*gave up after try 3"):
        backend(server).render([ImageTask("x", 1)])
    assert len(server.asked) == 3


def test_retry_after_is_honoured(server: Server) -> None:
    server.reply = lambda _, __: (
        (429, {"error": "slow down"}, {"Retry-After": "1"}) if len(server.asked) == 1 else (200, picture(), {})
    )
    begun = time.monotonic()
    assert len(backend(server).render([ImageTask("x", 1)])) == 1
    assert time.monotonic() - begun >= 1.0


def test_a_wait_beyond_reason_is_not_waited(server: Server) -> None:
    server.reply = lambda _, __: (429, {"error": "quota"}, {"Retry-After": "86400"})
    with pytest.raises(ServerError, match="86400 s"):
        backend(server).render([ImageTask("x", 1)])
    assert len(server.asked) == 1


def test_a_slow_server(server: Server) -> None:
    gate = threading.Event()

    def hang(_: str, __: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        gate.wait(60)
        return 200, picture(), {}

    server.reply = hang
    with pytest.raises(ServerError, match=r"did not answer within 0.3 s; raise timeout_s"):
        backend(server, timeout_s=0.3, max_retries=1).render([ImageTask("x", 1)])
    gate.set()
    assert len(server.asked) == 2


def test_a_server_that_is_down() -> None:
    with pytest.raises(ServerError, match=r"127.0.0.1:9/v1 cannot be reached.*check base_url"):
        backend("http://127.0.0.1:9/v1", max_retries=0).render([ImageTask("x", 1)])


def test_an_answer_that_breaks_off_is_tried_again(server: Server) -> None:
    whole = json.dumps(picture()).encode()
    server.reply = lambda _, __: (
        (200, whole[:40], {"Content-Length": str(len(whole))}) if len(server.asked) == 1 else (200, whole, {})
    )
    assert len(backend(server, timeout_s=30).render([ImageTask("x", 1)])) == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{oops", "not JSON"),
        (b"", "nothing, not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ({"data": []}, "without a picture"),
        ({"data": "x"}, "without a picture"),
        ([1], "without a picture"),
        ({"data": [{"b64_json": None}]}, "without a picture"),
        ({"data": [{"b64_json": "%%%"}]}, "not base64"),
        ({"data": [{"b64_json": base64.b64encode(b"hello").decode()}]}, "not a picture"),
        ({"data": [{"b64_json": base64.b64encode(png()[:60]).decode()}]}, "not a picture"),
        ({"data": [{"b64_json": ""}]}, "not a picture"),
    ],
)
def test_garbage_is_a_bad_reply(server: Server, body: Any, says: str) -> None:
    server.reply = lambda _, __: (200, body, {})
    with pytest.raises(BadReply, match=says):
        backend(server, max_retries=0).render([ImageTask("x", 1)])


@pytest.mark.parametrize("body", [b"{oops", {"data": []}, {"data": [{"b64_json": "aGVsbG8="}]}])
def test_garbage_is_asked_for_again(server: Server, body: Any) -> None:
    server.reply = lambda _, __: (200, body if len(server.asked) < 3 else picture(), {})
    assert len(backend(server, max_retries=2).render([ImageTask("x", 1)])) == 1
    assert len(server.asked) == 3


def test_garbage_is_given_up_after_as_many_tries_as_anything_else(server: Server) -> None:
    server.reply = lambda _, __: (200, b"{oops", {})
    with pytest.raises(BadReply, match="at try 2"):
        backend(server, max_retries=1).render([ImageTask("x", 1)])
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_server_is_refused_with_its_address(server: Server, status: int) -> None:
    other = type(server)()
    server.reply = lambda _, __: (status, b"", {"Location": f"{other.url}/images/generations"})
    with pytest.raises(ServerError, match=r"leads to http://127.*not followed"):
        backend(server).render([ImageTask("x", 1)])
    assert other.asked == []
    assert len(server.asked) == 1, "asking again is useless"
    other.http.shutdown()
    other.http.server_close()


def test_a_redirect_within_the_server_is_followed(server: Server) -> None:
    server.reply = lambda path, _: (
        (200, picture("blue"), {}) if path.endswith("/") else (307, b"", {"Location": f"{path}/"})
    )
    (image,) = backend(server).render([ImageTask("x", 1)])
    assert image.getpixel((0, 0)) == (0, 0, 255)


def test_a_picture_bomb_is_a_bad_reply(server: Server) -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    server.reply = lambda _, __: (200, {"data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}, {})
    with pytest.raises(BadReply, match=r"20000 x 20000|not a picture"):
        backend(server, max_retries=0).render([ImageTask("x", 1)])


def test_a_picture_by_address_of_the_same_server(server: Server) -> None:
    server.reply = lambda path, _: (
        (200, png("blue"), {"Content-Type": "image/png"})
        if path == "/files/1.png"
        else (200, {"data": [{"url": server.url.removesuffix("/v1") + "/files/1.png"}]}, {})
    )
    (image,) = backend(server).render([ImageTask("x", 1)])
    assert image.getpixel((0, 0)) == (0, 0, 255)


def test_a_picture_inside_its_address(server: Server) -> None:
    url = "data:image/png;base64," + base64.b64encode(png("blue")).decode()
    server.reply = lambda _, __: (200, {"data": [{"url": url}]}, {})
    assert backend(server).render([ImageTask("x", 1)])[0].getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("url", ["http://localhost:1/x.png", "file:///etc/hostname", "ftp://127.0.0.1/x", "http://[x"])
def test_other_servers_are_not_called(server: Server, url: str) -> None:
    server.reply = lambda _, __: (200, {"data": [{"url": url}]}, {})
    with pytest.raises(ServerError, match="another server"):
        backend(server).render([ImageTask("x", 1)])


def test_redirects_lead_nowhere(server: Server) -> None:
    other = type(server)()
    server.reply = lambda path, _: (
        (302, b"", {"Location": other.url})
        if path.startswith("/files")
        else (200, {"data": [{"url": server.url.removesuffix("/v1") + "/files/1.png"}]}, {})
    )
    with pytest.raises(BadReply, match="302"):
        backend(server, max_retries=0).render([ImageTask("x", 1)])
    assert other.asked == []
    other.http.shutdown()
    other.http.server_close()


def test_the_key_goes_to_the_server_and_into_no_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTER_KEY", KEY)
    server.reply = lambda _, __: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, {})
    with pytest.raises(ServerError, match="PAINTER_KEY") as caught:
        backend(server, api_key_env="PAINTER_KEY").render([ImageTask("x", 1)])
    assert server.asked[0][2]["authorization"] == f"Bearer {KEY}"
    error: BaseException | None = caught.value
    assert KEY not in str(error)
    assert error.__suppress_context__, "what it came from may hold the key"


def test_keys_meant_for_openai_stay_here(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    backend(server).render([ImageTask("x", 1)])
    assert KEY not in str(server.asked)


def test_a_key_that_is_not_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAINTER_KEY", raising=False)
    with pytest.raises(ConfigError, match="PAINTER_KEY"):
        backend(server, api_key_env="PAINTER_KEY")


def test_one_failure_ends_the_call(server: Server) -> None:
    server.reply = lambda _, fields: (403, {"error": "no"}, {}) if fields["seed"] == 0 else (200, picture(), {})
    with pytest.raises(ServerError, match="403"):
        backend(server, concurrency=1).render([ImageTask("x", seed) for seed in range(50)])
    assert len(server.asked) < 10


def test_interrupt_ends_the_waiting(server: Server) -> None:
    server.reply = lambda _, __: (503, {"error": "busy"}, {"Retry-After": "25"})
    painter = backend(server)
    threading.Timer(0.3, painter.interrupt).start()
    begun = time.monotonic()
    with pytest.raises(BackendError, match="interrupted"):
        painter.render([ImageTask("x", 1)])
    assert time.monotonic() - begun < 20


def test_it_opens_again_after_close(server: Server) -> None:
    painter = open_backend(
        BackendConfig(kind="openai_images", model="painter", server=ServerConfig(base_url=server.url))
    )
    assert isinstance(painter, OpenAIImagesBackend)
    assert painter.modes == {"generate", "edit", "inpaint"}
    painter.render([ImageTask("x", 1)])
    painter.close()
    assert len(painter.render([ImageTask("x", 1)])) == 1
    painter.close()


def test_no_tasks_ask_nothing(server: Server) -> None:
    assert backend(server).render([]) == []
    assert server.asked == []


@pytest.mark.parametrize(
    "task",
    [
        ImageTask("x", 1, mask=Image.new("L", (8, 8))),
        ImageTask("x", 1, size=(0, 8)),
        ImageTask("x", 1, size=(100_000, 100_000)),
    ],
)
def test_tasks_that_cannot_be(server: Server, task: ImageTask) -> None:
    with pytest.raises(InputError):
        backend(server).render([task])
    assert server.asked == []
