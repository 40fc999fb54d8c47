"""What a server must not do, whoever asks."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import struct
import zlib
from pathlib import Path

import httpx
import pytest
from PIL import Image

from agent.serve.app import PAGE
from agent.serve.command import open_socket
from agent.serve.errors import kind_of
from agent.serve.guard import Doorkeeper
from agent.serve.metrics import LOGGER, Lines
from agent.serve.pictures import PictureReader, public_address
from agent.serve.settings import Bounds, ServerSettings, read_bounds, read_tokens
from agent.testing import paint
from editors.backend import ImageTask
from redraft.errors import ConfigError, InputError
from redraft.images import read_image
from tests.serve.conftest import Running, Start, png

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
TOKENS = {"ann": ANN, "bob": BOB}


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Who asks


async def test_without_a_token_there_is_nothing_but_the_page_and_health(start: Start) -> None:
    async with start(tokens=TOKENS) as server:
        for path in (
            "/api/conversations",
            "/api/profiles",
            "/metrics",
            "/api/images/" + "0" * 64,
            "/api/openapi.json",
            "/openapi.json",
            "/docs",
            "/v1/models",
            "/v1/responses/resp_" + "0" * 32,
            "/x",
        ):
            answer = await server.http.get(path)
            assert (answer.status_code, code(answer)) == (401, "unauthorized"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in ("", "Bearer", "Bearer x", f"Basic {ANN}", f"Bearer {ANN}x", "Bearer ümlaut"):
            answer = await server.http.get("/api/conversations", headers={"Authorization": wrong.encode()})
            assert answer.status_code == 401, wrong
        me = (await server.http.get("/api/me")).json()
        assert (me["client"], me["login_needed"], me["profiles"]) == (None, True, [])
        assert (await server.http.get("/healthz")).status_code == 200
        assert (await server.http.get("/api/conversations", headers=bearer(ANN))).status_code == 200


async def test_one_client_sees_nothing_of_another(start: Start) -> None:
    async with start(tokens=TOKENS, token=ANN) as server:
        id = await server.new()
        events = await server.say(id, "a star")
        image = next(event["image"] for event in events if event["event"] == "image")
        run = next(event["run"] for event in events if event["event"] == "run_started")
        paths = [
            ("GET", f"/api/conversations/{id}"), ("GET", f"/api/conversations/{id}/events"),
            ("GET", f"/api/conversations/{id}/export"), ("DELETE", f"/api/conversations/{id}"),
            ("POST", f"/api/conversations/{id}/cancel"), ("GET", f"/api/images/{image}"),
            ("GET", f"/api/runs/{run}"), ("GET", f"/api/runs/{run}/trace"),
        ]  # fmt: skip
        bodies = [
            ("POST", f"/api/conversations/{id}/turns", {"request": "a star"}),
            ("POST", f"/api/conversations/{id}/branch", {}),
            ("PATCH", f"/api/conversations/{id}", {"title": "mine"}),
        ]
        async with httpx.AsyncClient(base_url=server.url, headers=bearer(BOB)) as bob:
            for method, path in paths:
                answer = await bob.request(method, path)
                assert (answer.status_code, code(answer)) == (404, "not_found"), path
            for method, path, body in bodies:
                answer = await bob.request(method, path, json=body)
                assert answer.status_code == 404, path
            assert (await bob.get("/api/conversations")).json() == {"conversations": []}
            own = (await bob.post("/api/conversations", json={})).json()["id"]
            answer = await bob.post(f"/api/conversations/{own}/turns", json={"request": "make it blue", "image": image})
            assert answer.status_code == 400, "nor can another's picture be named in a turn"
        for method, path in paths[:1]:
            assert (await server.http.request(method, path)).status_code == 200


async def test_a_browser_keeps_a_cookie_that_is_no_token(start: Start) -> None:
    async with start(tokens=TOKENS) as server:
        refused = await server.http.post("/api/login", json={"token": "guess-0123456789abcdef"})
        assert refused.status_code == 401
        answer = await server.http.post("/api/login", json={"token": ANN})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert ANN not in cookie
        assert (await server.http.get("/api/me")).json()["client"] == "ann"
        forged = cookie.split(";")[0].replace("ann.", "bob.")
        async with httpx.AsyncClient(base_url=server.url, headers={"Cookie": forged}) as other:
            assert (await other.get("/api/conversations")).status_code == 401
        assert (await server.http.post("/api/logout")).status_code == 204
        assert (await server.http.get("/api/conversations")).status_code == 401


def test_tokens_are_compared_as_a_whole_and_with_all_clients() -> None:
    door = Doorkeeper(ServerSettings(host="0.0.0.0", tokens=TOKENS))
    assert [door.client_of(token) for token in (ANN, BOB, ANN[:-1], ANN + "x", "", "\ud800")] == [
        "ann", "bob", None, None, None, None,
    ]  # fmt: skip
    source = (Path(__file__).parents[2] / "agent/serve/guard.py").read_text()
    assert source.count("hmac.compare_digest") == 2, "the token, and the cookie's proof"
    assert "own ==" not in source


def test_a_server_that_others_can_reach_needs_tokens() -> None:
    for host in ("0.0.0.0", "192.168.1.4", "::", "example.org"):
        with pytest.raises(ConfigError, match="REDRAFT_TOKENS"):
            ServerSettings(host=host)
        assert ServerSettings(host=host, tokens=TOKENS).tokens
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ServerSettings(host=host).tokens is None


def test_tokens_come_from_the_environment_or_a_file_and_are_never_quoted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\nann:{ANN}\n\nbob: {BOB}\n")
    assert read_tokens({"REDRAFT_TOKENS": str(file)}) == TOKENS
    assert read_tokens({"REDRAFT_TOKENS": f"ann:{ANN},bob:{BOB}"}) == TOKENS
    assert read_tokens({"REDRAFT_TOKEN": ANN}) == {"local": ANN}
    assert read_tokens({}) == {}
    for bad in ("ann:short", f"an n:{ANN}", f"ann:{ANN},ann:{BOB}", f"ann:{ANN},bob:{ANN}", f"../x:{ANN}", "/nowhere"):
        with pytest.raises(ConfigError) as error:
            read_tokens({"REDRAFT_TOKENS": bad})
        assert "short" not in str(error.value)
        assert ANN not in str(error.value)


async def test_neither_tokens_nor_prompts_are_logged(start: Start) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        async with start(tokens=TOKENS, token=ANN) as server:
            id = await server.new(title="my secret title")
            await server.say(id, "a star of great secrecy")
            await server.http.get("/api/conversations", headers=bearer("not-a-token-0123456789"))
            await server.http.get(f"/api/conversations?token={ANN}")
    finally:
        logger.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {"request", "turn"} <= {line["event"] for line in lines}
    assert any(line.get("client") == "ann" for line in lines)
    for secret in (ANN, BOB, "secre", "not-a-token"):
        assert secret not in stream.getvalue()


def test_a_mistake_is_logged_without_what_its_message_quotes() -> None:
    try:
        try:
            raise ValueError("the prompt was: my secret")
        except ValueError as error:
            raise KeyError("my secret again") from error
    except KeyError as error:
        record = logging.LogRecord(
            LOGGER, logging.ERROR, "", 1, "request", None, (KeyError, error, error.__traceback__)
        )
    line = Lines().format(record)
    assert "secret" not in line
    assert [told["type"] for told in json.loads(line)["error"]] == ["KeyError", "ValueError"]
    assert "my secret" in Lines(with_messages=True).format(record)
    assert kind_of(KeyError("x"))[0] == 500


def test_a_second_server_on_a_port_is_refused_before_its_models_load() -> None:
    first = open_socket(ServerSettings(port=0))
    with first, pytest.raises(InputError, match=r"cannot listen on .* choose another with --port"):
        open_socket(ServerSettings(port=first.getsockname()[1]))


def test_bounds_are_set_by_name() -> None:
    bounds = read_bounds(["max_images=64", "drain_s=0"])
    assert (bounds.max_images, bounds.drain_s, bounds.max_rounds) == (64, 0.0, Bounds().max_rounds)
    for bad in ("max_images", "colour=3", "max_images=many", "max_images=0", "max_rounds=-1", "request_s=nan"):
        with pytest.raises(ConfigError):
            read_bounds([bad])


# Other sites


async def test_other_sites_may_neither_read_nor_write(server: Running) -> None:
    answer = await server.http.get("/api/conversations", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = await server.http.options(
        "/api/conversations", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert not [name for name in asked.headers if name.startswith("access-control")]
    for origin in ("https://evil.example", "null", server.url.replace("127.0.0.1", "127.0.0.1.evil.example")):
        refused = await server.http.post("/api/conversations", json={}, headers={"Origin": origin})
        assert (refused.status_code, code(refused)) == (403, "forbidden"), origin
    assert (await server.http.post("/api/conversations", json={}, headers={"Origin": server.url})).status_code == 201


async def test_a_name_that_someone_points_at_this_machine_is_not_answered(start: Start) -> None:
    async with start(hosts=("draw.example",)) as server:
        for host, status in (("evil.example", 403), ("127.0.0.1.evil.example:80", 403), ("localhost:9", 200),
                             ("draw.example", 200), ("[::1]:8765", 200), ("[", 403)):  # fmt: skip
            assert (await server.http.get("/api/conversations", headers={"Host": host})).status_code == status, host


async def test_every_answer_forbids_guessing_types_framing_and_scripts(server: Running) -> None:
    for path in ("/api/conversations", "/healthz", "/nothing", "/api/images/x"):
        headers = (await server.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]


async def test_markup_that_was_said_does_not_run_in_the_pages_that_quote_it(server: Running) -> None:
    id = await server.new()
    evil = "a star <script>alert(1)</script><img src=x onerror=alert(2)>"
    events = await server.say(id, evil)
    run = next(event["run"] for event in events if event["event"] == "run_started")
    for path in (f"/api/runs/{run}/trace", f"/api/conversations/{id}/export"):
        page = await server.http.get(path)
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "sandbox" in policy


# Names


async def test_no_name_leads_out_of_its_folder(server: Running) -> None:
    id = await server.new()
    await server.say(id, "a star")
    names = (
        "..", "../server.sqlite", "..%2f..%2fserver.sqlite", "%2e%2e/%2e%2e/server.sqlite", "....//....//etc/passwd",
        "/etc/passwd", "%00", "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "%0a", "0" * 64 + ".png", "..\\..\\x", "~root",
    )  # fmt: skip
    for name in names:
        for path in (f"/api/images/{name}", f"/api/runs/{name}", f"/api/runs/{name}/trace", f"/api/conversations/{name}",
                     f"/page/{name}", f"/api/conversations/{name}/events"):  # fmt: skip
            async with server.http.stream("GET", path) as answer:
                data = await answer.aread()
            # The client itself makes "/" of "/page/..", and there is the page.
            assert answer.status_code in (404, 405) or data == (PAGE / "index.html").read_bytes(), path
            assert b"SQLite" not in data
            assert b"root:" not in data
    refused = await server.post(id, "a star", image="../../../server.sqlite")
    assert (refused.status_code, code(refused)) == (422, "bad_body")


# Pictures


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it has width x height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + b"\0" * (3 * width)
    rows = zlib.compress(row * min(height, 200_000_000 // len(row)), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HTML = b"<!doctype html><html><script>alert(1)</script></html>"


async def test_pictures_that_unpack_to_too_much_are_refused_unopened(server: Running) -> None:
    for width, height in ((30_000, 30_000), (6_000, 6_000), (2**31 - 1, 2**31 - 1)):
        data = bomb(width, height) if width < 2**20 else bomb(10, 10)[:16] + struct.pack(">II", width, height) + b"\x08"
        answer = await server.http.post("/api/images", content=data)
        assert answer.status_code in (400, 415), (width, answer.text)


async def test_what_is_no_picture_is_refused_whatever_it_says_it_is(server: Running) -> None:
    whole = png(paint(ImageTask("a", 1)))
    for data in (
        SVG,
        HTML,
        b"GIF89a" + HTML,
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"",
        b"\x89PNG\r\n\x1a\n",
        whole[:200],
        b"PK\3\4",
    ):
        for kind in ("image/png", "image/svg+xml", "text/html"):
            answer = await server.http.post("/api/images", content=data, headers={"Content-Type": kind})
            assert answer.status_code in (400, 415), data[:20]
        answer = await server.http.post("/api/images", files={"file": ("x.png", data, "image/png")})
        assert answer.status_code in (400, 415), data[:20]
    assert (await server.http.post("/api/images", files={"other": ("x.png", whole)})).status_code == 415
    sent = await server.http.post("/api/images", files={"file": ("../../<b>.svg", whole, "image/svg+xml")})
    assert sent.status_code == 201, "its name and type say nothing"


async def test_nothing_of_an_upload_is_kept_but_its_pixels(server: Running) -> None:
    picture = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x010E] = "<script>alert('exif')</script>"
    exif[0x0112] = 6  # turned by a quarter
    data = png(picture, "JPEG", exif=exif) + b"<script>alert('tail')</script>"
    answer = (await server.http.post("/api/images", content=data)).json()
    assert (answer["width"], answer["height"]) == (20, 40)
    kept = await server.http.get(f"/api/images/{answer['image']}")
    assert b"script" not in kept.content
    assert kept.headers["content-type"] == "image/png"
    assert not read_image(kept.content).getexif()


async def test_bodies_above_their_bound_are_refused_with_and_without_a_length(start: Start) -> None:
    async with start(bounds=Bounds(max_body=1000, max_image_bytes=5000)) as server:
        long = await server.http.post("/api/conversations", content=b'{"title": "' + b"x" * 2000)
        assert (long.status_code, code(long)) == (413, "too_large")

        async def pieces(size: int):  # type: ignore[no-untyped-def]
            for _ in range(size // 1000):
                yield b"x" * 1000

        for path, size in (("/api/conversations", 5000), ("/api/images", 90_000)):
            try:
                answer = await server.http.post(path, content=pieces(size))
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                continue  # the server has hung up on us, as it may
            assert (answer.status_code, code(answer)) == (413, "too_large"), path
        large = await server.http.post("/api/images", content=png(Image.effect_noise((100, 100), 90)))
        assert large.status_code == 400


async def test_a_body_that_never_comes_is_not_waited_for(start: Start) -> None:
    async with start(bounds=Bounds(body_s=0.3)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /api/conversations HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n{{".encode())
        async with asyncio.timeout(120):
            status = await reader.readline()
        assert b"503" in status
        writer.close()


# Addresses


async def test_pictures_are_not_fetched_by_url_unless_their_host_is_allowed(tmp_path: Path) -> None:
    closed = PictureReader(ServerSettings(data=tmp_path))
    urls = (
        "http://127.0.0.1/x.png", "http://169.254.169.254/latest/meta-data/", "https://example.org/x.png",
        "file:///etc/passwd", "ftp://example.org/x", "gopher://x", "http://[::1]/x", "http://example.org:22/", "//x/y",
        "http://[", "javascript:alert(1)", "",
    )  # fmt: skip
    for url in urls:
        with pytest.raises(InputError, match="not fetched"):
            await closed.fetch(url)
    few = PictureReader(ServerSettings(data=tmp_path, image_hosts=("example.org", "localhost")))
    for url in (
        "http://example.org.evil.example/x", "http://evil.example/example.org", "http://example.org@evil.example/x",
        "http://u:p@example.org/x", "http://example.org:8080/x",
    ):  # fmt: skip
        with pytest.raises(InputError, match="not fetched"):
            await few.fetch(url)
    with pytest.raises(InputError, match="inside of a network"):
        await few.fetch("http://localhost/x.png")


def test_addresses_inside_of_networks_are_known() -> None:
    for host in ("127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0", "100.64.0.1",
                 "::ffff:127.0.0.1"):  # fmt: skip
        with pytest.raises(InputError, match="inside of a network"):
            public_address(host, 80)
    assert public_address("93.184.215.14", 80) == "93.184.215.14"
    assert socket.has_ipv6 in (True, False)


async def test_data_urls_hold_pictures_and_nothing_else(tmp_path: Path) -> None:
    import base64

    pictures = PictureReader(ServerSettings(data=tmp_path, bounds=Bounds(max_image_bytes=3000)))
    whole = base64.b64encode(png(Image.new("RGB", (8, 8), "red"))).decode()
    assert (await pictures.fetch(f"data:image/png;base64,{whole}")).size == (8, 8)
    for url in (
        f"data:text/html;base64,{base64.b64encode(HTML).decode()}", f"data:image/svg+xml,{SVG.decode()}",
        "data:image/png;base64,!!!!", "data:", "data:;base64", "data:image/png;base64," + "A" * 90_000,
    ):  # fmt: skip
        with pytest.raises(InputError):
            await pictures.fetch(url)
