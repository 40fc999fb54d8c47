"""Bodies of the OpenAI Images and Chat Completions APIs, as far as redraft goes by them.

Fields that those APIs have and that mean nothing here (`quality`, `style`, `moderation`, `user`, ...) are
ignored, since clients send them unasked. Settings that those APIs do not have are under the one key `redraft`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from agent.serve.errors import ModelNotFound
from agent.serve.service import Service
from agent.serve.wire import ClientOptions
from redraft.errors import InputError
from redraft.options import MAX_N, MAX_SEED, DrawOptions
from redraft.profiles import Profile

Format = Literal["png", "jpeg", "webp"]
SeedWord = Annotated[int, Field(ge=-1, le=MAX_SEED)] | None
MAX_SIDE = 4096
_ANY_MODEL = re.compile(r"(?:gpt-|dall-e-|chatgpt-|o[1-9])[\w.-]{0,80}")
"""Names that clients have built in. They mean the server's first profile."""
B = TypeVar("B", bound=BaseModel)


class SamplingBody(BaseModel):
    """What all bodies may set of a run."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    stream: bool = False
    redraft: ClientOptions = ClientOptions()
    seed: SeedWord = None
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None
    steps: int | None = Field(default=None, validation_alias=AliasChoices("steps", "num_inference_steps"))
    guidance: float | None = Field(
        default=None, validation_alias=AliasChoices("guidance", "guidance_scale", "true_cfg_scale")
    )

    def options(self, **more: object) -> DrawOptions:
        """What the body sets of the run; what stands under `redraft` goes before. Raises InputError."""
        own = {name: getattr(self, name) for name in ("seed", "negative_prompt", "steps", "guidance")} | more
        return self.redraft.whole.over(
            DrawOptions.read({name: value for name, value in own.items() if value is not None})
        )

    @field_validator("stream", mode="before")
    @classmethod
    def _absent(cls, value: Any) -> Any:
        return False if value is None else value

    @field_validator("redraft", mode="before")
    @classmethod
    def _of_a_form(cls, value: Any) -> Any:
        if isinstance(value, str):  # forms hold text only
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError("is not JSON") from None
        return ClientOptions() if value is None else value


class PictureFormat(BaseModel):
    """At which size and in which format pictures are answered."""

    model_config = ConfigDict(extra="ignore")

    size: str | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Format = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] = 100
    partial_images: Annotated[int, Field(ge=0, le=100)] | None = None
    """Most judged attempts that are streamed."""

    @field_validator("output_format", "output_compression", mode="before")
    @classmethod
    def _default(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value

    @field_validator("size")
    @classmethod
    def _a_size(cls, value: str | None) -> str | None:
        try:
            size: str | None = DrawOptions(size=value).size
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        if size is not None and "x" in size and max(map(int, size.split("x"))) > MAX_SIDE:
            raise ValueError(f"sides have {MAX_SIDE} pixels at most here")
        return size

    @property
    def wanted(self) -> tuple[int, int] | None:
        """(width, height) that the pictures are to fit into, if the size is in pixels."""
        return DrawOptions(size=self.size).pixels(None) if self.size is not None and "x" in self.size else None

    def size_for(self, profile: Profile | None) -> str | None:
        """The size that a drawing is made at. One in pixels that the profile does not make by itself is left to be fitted:
        clients send one unasked (1024x1024)."""
        sizes = () if profile is None else profile.need_generator().sizes
        return None if self.size is not None and "x" in self.size and sizes and self.size not in sizes else self.size

    def require_opaque(self) -> None:
        """Raises InputError."""
        if self.background == "transparent":
            raise InputError("background: pictures are opaque here; leave it out, or give auto or opaque")


class ImagesBody(SamplingBody, PictureFormat):
    prompt: str
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 1
    response_format: Literal["b64_json", "url"] | None = None

    @property
    def by_url(self) -> bool:
        """Whether pictures are answered by their addresses: as asked, else as the model that is named does by itself."""
        if self.response_format is None:
            return not self.stream and (self.model or "").startswith("dall-e")
        return self.response_format == "url"

    @field_validator("n", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return 1 if value is None else value

    def check(self) -> None:
        """Raises InputError for what cannot be had."""
        self.require_opaque()
        if self.by_url and self.output_format != "png":
            raise InputError("response_format url gives PNG files; ask for b64_json, or for png")
        if self.stream and self.by_url:
            raise InputError("streams carry b64_json; leave response_format out")
        if self.stream and self.n > 1:
            raise InputError("n: a stream is of one picture; ask for one at a time")


class Place(BaseModel):
    """A picture of a JSON body."""

    model_config = ConfigDict(extra="ignore")

    image_url: str


class EditsBody(ImagesBody):
    """`images` and `mask` of a JSON body; forms bring them as files."""

    images: list[Place] = []
    mask: Place | None = None


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[dict[str, Any]] | None = None
    images: list[dict[str, Any]] | None = None
    """The pictures of this server's own answers, as clients that keep them send them back."""

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        parts = self.content or ()
        return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text" and "text" in part)

    @property
    def pictures(self) -> list[str]:
        """Their URLs, those in Markdown too."""
        urls = [url for _, _, url in markdown_pictures(self.text) if url.startswith("data:image/")]
        parts = self.content if isinstance(self.content, list) else []
        for part in (*parts, *(self.images or ())):
            place = part.get("image_url")
            url = place.get("url") if isinstance(place, dict) else place
            if part.get("type") == "image_url" and isinstance(url, str):
                urls.append(url)
        return urls


def markdown_pictures(text: str) -> Iterator[tuple[int, int, str]]:
    """The pictures of a Markdown text, `![name](url)`: where each begins and ends, and its URL. Takes time that grows
    linearly with the text, whatever is in it."""
    at = url_end = 0
    while (start := text.find("![", at)) >= 0:
        middle = text.find("]", start + 2)
        if middle < 0:
            return
        at = middle + 1
        if not text.startswith("](", middle):
            continue
        if at >= url_end:  # else it would end at the space where the one before it ended
            url_end = _URL.match(text, middle + 2).end()  # type: ignore[union-attr]
        if text.startswith(")", url_end):
            at = url_end + 1
            yield start, at, text[middle + 2 : url_end]


_URL = re.compile(r"[^)\s]*")


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatBody(SamplingBody):
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2000)]
    stream_options: StreamOptions | None = None
    n: int | None = None
    modalities: list[str] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def in_images(self) -> bool:
        """Whether the picture stands in `images` (who asks for the modality image reads it there), not in the text."""
        return "image" in (self.modalities or ())

    def require_text(self) -> None:
        """Raises InputError for answers that are neither pictures nor plain text."""
        if self.tools or self.functions:
            raise InputError("tools: this model draws and answers in words, it calls no tools; leave them out")
        if self.response_format is not None and self.response_format.get("type") not in (None, "text"):
            raise InputError(
                "response_format: a picture is no JSON; leave it out (checks and scores are under `redraft` of the answer)"
            )


class UnreadableError(Exception):
    """A body that is not what the API says. `param`: which field."""

    def __init__(self, message: str, param: str | None) -> None:
        super().__init__(message)
        self.param = param


def parsed(kind: type[B], value: Mapping[str, Any]) -> B:
    """Raises UnreadableError."""
    from agent.serve.app import first_of

    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        raise UnreadableError(*first_of(error.errors())) from None


def profile_of(model: str | None, service: Service) -> str:
    """The profile that a model's name means. Raises ModelNotFound."""
    names = [info.name for info in service.profiles()]
    if model not in names and (model is None or model == "" or _ANY_MODEL.fullmatch(model)):
        return service.default
    if model not in names:
        raise ModelNotFound(f"The model {model!r} does not exist; there are: {', '.join(names)}")
    return model
