"""OpenAIImagesBackend: generation and editing on any server with OpenAI's Images API (vLLM-Omni, SGLang, OpenAI, …).

Steps, guidance, strength, one LoRA and whatever `call` holds are sent as vLLM-Omni and SGLang name them; docs/machines.md has
what each of them does with it. What servers take differs: `seed` and `negative_prompt` are extensions, `response_format` is
refused by some, sizes are often limited. Such a field is sent until the server refuses it, and left out from then on (with
one log line).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from PIL import Image

from editors.backend import (
    Ability,
    ImageTask,
    Mode,
    StepCallback,
    decode_image,
    fit_image,
    limit_area,
    mode_of,
    png,
    require_ability,
    restore_outside_mask,
    wanted_size,
)
from redraft.errors import BackendError, BadReply, ConfigError, RedraftError
from redraft.profiles import BackendConfig, LoraConfig
from redraft.servers import RefusedError, ServerClient

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

MAX_BYTES: Final = 256 * 1024 * 1024
"""Largest reply that is read."""

MAX_SENT: Final = 2048 * 2048
"""Largest source that is sent, in pixels; a larger one is scaled down first. No served model draws more, and servers
limit what they take (OpenAI: 50 MB a picture)."""

_LOOK_S = 0.1
"""How often a call looks whether it was interrupted."""

OPTIONAL: Final = frozenset({"seed", "negative_prompt", "response_format", "size", "generator_device", "mask_image"})
"""Fields that are left out if a server refuses them. A size that is left out is made afterwards, by resizing."""

_TRUE_CFG = ("qwen-image",)
"""What names of models contain whose guidance is called `true_cfg_scale`."""


class OpenAIImagesBackend:
    """One request for each picture, several at a time (`server.concurrency`), each tried again as `redraft.servers` says.

    Pictures have exactly the size their task asks for: they are resized if the server draws another. Pictures that
    come as an address are fetched only from the server itself.
    """

    def __init__(self, config: BackendConfig) -> None:
        """Raises ConfigError if the profile names a key that is not in the environment; connects to nothing."""
        if config.server is None:
            raise ConfigError('kind = "openai_images" needs a [server] table with base_url')
        if (config.width is None) != (config.height is None):
            raise ConfigError("set both width and height in the profile, or neither")
        if len(config.loras) > 1:
            raise ConfigError(f"an image server takes one LoRA with a request, and the profile has {len(config.loras)}")
        self._config = config
        self._server = ServerClient(config.server, config.model, MAX_BYTES, self._read_picture)
        self._address = config.server.base_url
        self._lock = threading.Lock()
        self._client: openai.OpenAI | None = None
        self._here = threading.local()
        self._refused: frozenset[str] = frozenset()
        self._accepted: frozenset[str] = frozenset()
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        return self._config.model

    @property
    def modes(self) -> frozenset[Mode]:
        """What the API has; whether the model behind it can is seen when it is asked."""
        return frozenset({"generate", "edit", "inpaint"})

    @property
    def abilities(self) -> frozenset[Ability]:
        """The API has no noise, and no steps of which a part could be drawn. The rest is sent; a server that refuses it ends
        the drawing with its words."""
        return frozenset({"step_count", "guidance", "negative", "references", "edit_references"})

    @property
    def steps(self) -> int | None:
        return self._config.steps

    def interrupt(self) -> None:
        """Makes the `render` under way, if any, raise BackendError soon. Any thread may call it."""
        self._stop.set()

    def close(self) -> None:
        """Closes the connections; a later `render` opens new ones."""
        self.interrupt()
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None

    def render(self, tasks: Sequence[ImageTask], on_step: StepCallback | None = None) -> list[Image.Image]:
        """One RGB picture for each task, in order; `on_step` counts pictures. The first failure ends the call.

        Raises InputError, ServerError (down, slow, or refusing), BadReply or BackendError.
        """
        if not tasks:
            return []
        for task in tasks:
            mode_of(task)
            require_ability(self, task)
        self._stop = stop = threading.Event()
        pool = ThreadPoolExecutor(min(self._server.server.slots, len(tasks)), thread_name_prefix="redraft-images")
        try:
            positions = {pool.submit(self._picture, task, stop): at for at, task in enumerate(tasks)}
            pictures: dict[int, Image.Image] = {}
            left = set(positions)
            while left:
                done, left = wait(left, _LOOK_S, FIRST_COMPLETED)
                for future in done:
                    pictures[positions[future]] = future.result()
                    if on_step is not None:
                        on_step(len(pictures), len(tasks))
                if left and stop.is_set():
                    raise BackendError("the drawing was interrupted")
            return [pictures[at] for at in range(len(tasks))]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _picture(self, task: ImageTask, stop: threading.Event) -> Image.Image:
        self._here.stop = stop
        optional = OPTIONAL - ({"negative_prompt"} if "negative" in task.must else set())
        left_out = self._refused & optional
        sent = limit_area(task, MAX_SENT)
        while True:
            fields = {name: value for name, value in self._fields(sent).items() if name not in left_out}
            try:
                picture = self._ask(sent, fields)
                break
            except RefusedError as error:
                doubtful = optional & fields.keys() - self._accepted
                named = frozenset(name for name in optional & fields.keys() if name in error.fields)
                if error.status not in (400, 422) or not (named or doubtful):
                    raise
                left_out |= named or doubtful
        with self._lock:
            for name in sorted(left_out - self._refused):
                log.warning("%s refuses `%s`; it is left out", self._address, name)
            self._refused |= left_out
            self._accepted |= OPTIONAL & fields.keys()
        return restore_outside_mask(fit_image(picture, wanted_size(task, self._default_size())), task)

    def _default_size(self) -> tuple[int, int] | None:
        config = self._config
        return (config.width, config.height) if config.width is not None and config.height is not None else None

    def _fields(self, task: ImageTask) -> dict[str, Any]:
        """What a request says besides model, prompt and pictures."""
        config = self._config
        size = wanted_size(task, self._default_size())
        guidance = "true_cfg_scale" if any(name in config.model.casefold() for name in _TRUE_CFG) else "guidance_scale"
        fields: dict[str, Any] = {
            "response_format": "b64_json",
            "size": f"{size[0]}x{size[1]}" if size is not None else None,
            "seed": task.seed,
            "negative_prompt": task.negative_prompt,
            "num_inference_steps": task.steps or config.steps,
            guidance: config.guidance if task.guidance is None else task.guidance,
            "strength": config.strength if task.source is not None else None,
            "image_guidance_scale": config.image_guidance if task.source is not None else None,
            "lora": _wire_lora(config.loras[0]) if config.loras else None,
            **config.call,
        }
        if (fields.get("true_cfg_scale") or 0) > 1 and not fields["negative_prompt"]:
            # Without a negative prompt, such models draw without guidance, and say nothing of it.
            fields["negative_prompt"] = " "
        if task.mask is not None and task.source is not None:
            # vLLM-Omni's name; it does not read `mask`.
            fields["mask_image"] = _data_url(task.mask.convert("L").resize(task.source.size))
        return {name: value for name, value in fields.items() if value is not None}

    def _ask(self, task: ImageTask, fields: Mapping[str, Any]) -> Image.Image:
        """The picture in the server's answer. Raises RefusedError, ServerError, BadReply, BackendError."""
        images = self._open_client().images.with_raw_response
        try:
            given = [task.source, *task.references] if task.source is not None else list(task.references)
            if not given:
                images.generate(model=self.name, prompt=task.prompt, n=1, extra_body=dict(fields))
                return self._taken_picture()
            # The API draws from reference pictures by its edits: there is no other way to hand it one.
            files = [
                (f"image{number or ''}.png", png(picture.convert("RGB")), "image/png")
                for number, picture in enumerate(given)
            ]
            pictures: dict[str, Any] = {"image": files if len(files) > 1 else files[0]}
            if task.mask is not None and task.source is not None:
                pictures["mask"] = ("mask.png", png(_wire_mask(task.mask, task.source.size)), "image/png")
            # A form has texts alone.
            texts = {
                name: json.dumps(field) if isinstance(field, dict | list) else field for name, field in fields.items()
            }
            images.edit(model=self.name, prompt=task.prompt, n=1, extra_body=texts, **pictures)
            return self._taken_picture()
        except RedraftError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary to openai and its HTTP library
            raise self._server.map_error(error) from None

    def _read_picture(self, body: bytes, address: str) -> None:
        """Keeps the picture in an answer for the thread that waits for it, inside its call: what cannot be read is asked for
        again. Raises BadReply, RefusedError."""
        self._here.picture = decode_image(self._image_bytes(body, address), f"{self.name} at {self._address}")

    def _taken_picture(self) -> Image.Image:
        picture: Image.Image = self._here.picture
        del self._here.picture
        return picture

    def _open_client(self) -> openai.OpenAI:
        with self._lock:
            if self._client is None:
                self._client = self._server.open(lambda: self._here.stop.is_set())
            return self._client

    def _image_bytes(self, body: bytes, answered_by: str) -> bytes:
        server = self._server.said
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            start = self._server.scrub(body[: 2**16].decode("utf-8", "replace") or "nothing")
            raise BadReply(f"{server}: {start}, not JSON") from None
        data = reply.get("data") if isinstance(reply, dict) else None
        first = data[0] if isinstance(data, list) and data else None
        if not isinstance(first, dict):
            raise BadReply(f"{server} without a picture: {self._server.scrub(reply)}")
        text, address = first.get("b64_json"), first.get("url")
        if not isinstance(text, str) and isinstance(address, str) and address.startswith("data:"):
            text = address
        if isinstance(text, str):
            try:
                coded = text.partition(",")[2] if text.startswith("data:") else text
                return base64.b64decode("".join(coded.split()), validate=True)
            except (binascii.Error, ValueError):
                raise BadReply(f"{server} with something that is not base64") from None
        if isinstance(address, str):
            return self._fetched(address, answered_by)
        raise BadReply(f"{server} without a picture: {self._server.scrub(first)}")

    def _fetched(self, address: str, answered_by: str) -> bytes:
        """The bytes at an address that the server gave. Only from the server itself: an answer must not make this
        machine call others."""
        base = urljoin(answered_by, urlsplit(self._address).path)
        try:
            url = urljoin(base, address)
            same = _origin(url) == _origin(base)
        except ValueError:
            same = False
        if not same:
            raise RefusedError(
                f"{self.name} at {self._address} answered with the address of a picture on another server "
                f"({self._server.scrub(address)}), which is not fetched; use a server that sends b64_json"
            )
        headers = {"Authorization": f"Bearer {self._server.key}"} if self._server.key else {}
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(
                urllib.request.Request(url, headers=headers), timeout=self._server.server.timeout_s
            ) as response:
                data: bytes = response.read(MAX_BYTES + 1)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise BadReply(
                f"the picture at {self._server.scrub(url)} cannot be fetched ({self._server.scrub(error)})"
            ) from None
        if len(data) > MAX_BYTES:
            raise BadReply(f"the picture at {self._server.scrub(url)} has more than {MAX_BYTES >> 20} MiB")
        return data


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects would lead to other servers."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port (RFC 6454). Raises ValueError for what is no address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _wire_lora(lora: LoraConfig) -> dict[str, Any]:
    """A LoRA as vLLM-Omni takes it with a request; the path is one of the server's machine."""
    return {"name": Path(lora.path).stem, "path": lora.path, "scale": lora.scale}


def _data_url(image: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def _wire_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask for both conventions in use: white where to change, and transparent there (OpenAI's)."""
    change = mask.convert("L").resize(size, Image.Resampling.BILINEAR)
    return Image.merge("RGBA", (change, change, change, change.point(lambda value: 255 - value)))
