"""What goes over the wire: bodies of requests and answers. docs/serving.md has the routes and the events."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator

from redraft.limits import CLIENT_LIMITS, Limits
from redraft.options import MAX_N, DrawOptions

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MAX_REFERENCES = 8
"""Most pictures that a drawing goes by, beside the one that it edits."""
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]


class _Body(BaseModel):
    """The body of an HTTP request. Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Login(_Body):
    token: Annotated[str, StringConstraints(max_length=1024)]


_CLIENT_FIELDS: dict[str, Any] = {
    name: (field.annotation, field)
    for name, field in DrawOptions.model_fields.items()
    if name in CLIENT_LIMITS or name not in Limits.model_fields
}


class ClientOptions(create_model("ClientOptions", __base__=_Body, **_CLIENT_FIELDS)):  # type: ignore[misc]
    """What a client may set of a run (`redraft.options.DrawOptions`); the server's own bounds apply as well. None: the
    profile's."""

    @property
    def whole(self) -> DrawOptions:
        return DrawOptions(**self.model_dump(exclude_none=True))


class NewConversation(_Body):
    title: Title | None = None
    profile: str | None = None
    may_ask: bool = True


class ConversationChanges(_Body):
    title: Title | None = None
    may_ask: bool | None = None


class NewBranch(_Body):
    title: Title | None = None


class NewTurn(_Body):
    """`seed` and `limits` may stand beside `options` as well as in them."""

    request: str
    image: Hash | None = None
    mask: Hash | None = None
    references: Annotated[list[Hash], Field(max_length=MAX_REFERENCES)] = []
    options: ClientOptions = ClientOptions()
    n: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    """How many pictures are made, each by a run of its own; None: as the conversation has it."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, body: Any) -> Any:
        if not isinstance(body, dict) or not ("seed" in body or "limits" in body):
            return body
        rest = {name: value for name, value in body.items() if name not in ("seed", "limits")}
        limits, options = body.get("limits") or {}, rest.get("options") or {}
        if not isinstance(limits, dict) or not isinstance(options, dict):
            raise ValueError("limits and options are JSON objects")
        if unknown := sorted(limits.keys() - set(CLIENT_LIMITS)):
            raise ValueError(f"limits.{unknown[0][:40]}: there is no such limit")
        seed = {} if body.get("seed") is None else {"seed": body["seed"]}
        return {**rest, "options": {**limits, **seed, **options}}


class ProfileInfo(BaseModel):
    name: str
    description: str
    can_edit: bool
    limits: dict[str, float]
    """The profile's `accept_at`, `max_rounds`, `max_images`, `max_seconds`."""


class Profiles(BaseModel):
    profiles: list[ProfileInfo]
    default: str


class Me(BaseModel):
    client: str | None
    login_needed: bool
    profiles: list[ProfileInfo]
    limits: dict[str, float]
    """The server's bounds: `max_prompt`, `max_image_bytes`, `max_rounds`, `max_images`, `max_seconds`,
    `max_conversations`."""


class ConversationInfo(BaseModel):
    id: str
    title: str
    profile: str
    created: str
    updated: str
    parent: str | None
    turns: int
    working: bool
    thumb: str | None


class ConversationList(BaseModel):
    conversations: list[ConversationInfo]


class PictureInfo(BaseModel):
    number: int
    image: str
    made: str
    made_from: str
    parent: int | None
    score: float | None
    accepted: bool
    unchecked: list[str]
    """Words of the request that no check asks about; with any of them `accepted` is false."""
    run: str | None


class GalleryPicture(PictureInfo):
    """A picture, and where it was made."""

    conversation: str
    title: str
    turn: int


class Gallery(BaseModel):
    pictures: list[GalleryPicture]


class TurnInfo(BaseModel):
    turn: int
    request: str
    kind: str
    reply: str
    current: int
    pictures: list[int]
    reason: str
    by: str
    question: str
    answer: str
    run: str | None
    error: bool


class Waiting(BaseModel):
    turn: int
    question: str
    choices: list[str]


class Working(BaseModel):
    turn: int
    request: str


class ConversationView(BaseModel):
    id: str
    title: str
    profile: str
    created: str
    updated: str
    parent: str | None
    turns: list[TurnInfo]
    pictures: list[PictureInfo]
    current: int
    accept_at: float
    seed: int | None
    may_ask: bool
    working: Working | None
    waiting: Waiting | None
    last_event: int


class TurnAccepted(BaseModel):
    turn: int
    last_event: int


class Cancelled(BaseModel):
    cancelled: bool


class Uploaded(BaseModel):
    image: str
    width: int
    height: int


class ErrorInfo(BaseModel):
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str


class ErrorBody(BaseModel):
    error: ErrorInfo


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the errors of a route, for FastAPI's `responses`: those of all routes, and these."""
    common = (400, 401, 403, 413, 429, 500, 503)
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in sorted({*common, *statuses})}


_ERRORS = {
    400: "a prompt, picture or option that cannot be used",
    401: "no token, or a wrong one",
    403: "another site's origin, or an unknown Host",
    404: "this client has nothing with that name",
    409: "a turn is under way",
    413: "the body is too large",
    415: "the upload is not a picture",
    422: "the request does not follow the contract; `param` names the field",
    429: "too many conversations, turns, draws or requests of this client",
    500: "a bug in redraft; the message holds an id that is in the log",
    502: "a model or server failed",
    503: "the server is going down, the request took too long, or the database cannot be written",
}


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a body whose route reads it by itself, with all definitions in place."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).removeprefix("#/$defs/")
            return whole(definitions[name]) if name in definitions else {k: whole(v) for k, v in value.items()}
        return [whole(item) for item in value] if isinstance(value, list) else value

    return dict(whole(schema))


class ServerEvent(BaseModel):
    """One event of a conversation. `id` None: not kept (progress)."""

    id: int | None
    event: str
    data: dict[str, Any]
