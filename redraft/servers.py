"""OpenAI-style servers: how they are called, how many calls they get at once, and when a call is tried again.

The openai client retries: on timeouts, lost connections and the statuses 408, 409, 429 and 5xx, at most
`max_retries` times, after a wait that doubles (with jitter) or that the server asks for with Retry-After (up to two
minutes; a server that asks for more is given up). The clients made here see to the rest for each of these tries: it ends
after `timeout_s`, its answer is read whole, is not too long and can be read, it has a slot of the server's pace, and a
redirect is followed within the server's own origin only: neither keys nor requests go to others.

Several servers of one model (`base_urls`) are a Fleet: each try goes to the least busy one, or to the one that the request's
affinity names; a server that fails is set aside, and its request goes to another at once.

Importing this module is cheap; openai loads with the first client.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from redraft.errors import BackendError, BadReply, ConfigError, ServerError, one_line
from redraft.gpu import on_gpu, on_gpu_async
from redraft.secrets import is_stand_in, scrub, scrub_value

if TYPE_CHECKING:
    import openai

    from redraft.profiles import ServerConfig


class Pace:
    """Slots for calls: `start` at first, one more for each answer (twice as many each round trip) until the server
    pushes back; that halves them, and from then on they grow by one a round trip. Never more than `most`.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989) behind a slow start, as TCP does. Calls that were
    under way when the slots were halved say nothing new when they are pushed back too, and do not halve them again.
    Belongs to one event loop; callers get slots in the order in which they came.
    """

    def __init__(self, start: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = float(min(start, most))
        self._most = most
        self._clock = clock
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._probing = True
        self._cut_at = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Waits for a slot and holds it. Gives the time of entry, for `pushed_back`."""
        if self._busy >= self.limit or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._busy -= 1  # the slot came with the cancellation
                elif turn in self._waiting:
                    self._waiting.remove(turn)
                self._wake()
                raise
        else:
            self._busy += 1
        try:
            yield self._clock()
        finally:
            self._busy -= 1
            self._wake()

    def answered(self) -> None:
        """A call came back well."""
        self._limit = min(float(self._most), self._limit + (1.0 if self._probing else 1.0 / self._limit))

    def pushed_back(self, begun: float) -> None:
        """A call that began at `begun` was refused for now, or not answered in time."""
        if begun > self._cut_at:
            self._cut_at = self._clock()
            self._limit = max(1.0, self._limit / 2)
        self._probing = False

    def _wake(self) -> None:
        while self._waiting and self._busy < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._busy += 1
                turn.set_result(None)


AFFINITY = "x-redraft-affinity"
"""A header of requests that stay together: those with one value go to one server, if it lives. It is not sent."""

_ASIDE_S, _LONGEST_ASIDE_S = 1.0, 60.0
_KEPT = 4096


@dataclass
class _Member:
    address: str
    busy: int = 0
    failures: int = 0
    """In a row."""
    aside_until: float = float("-inf")


class Fleet:
    """Which of several servers of one model a call goes to: the one with the fewest calls, waiting ones counted.

    A server that cannot be reached, breaks off, is too slow or answers 500, 502, 503 or 504 is set aside for a second, twice as
    long each further time, a minute at most; then it gets one call, and more once it has answered. If all are set aside,
    the one whose time is up first is tried. Calls of one affinity stay on a server as long as it is not set aside: it has
    their picture. Safe to use from several threads and event loops.

    >>> fleet = Fleet(["http://a:8000/v1", "http://b:8000/v1"])
    >>> [fleet.take() for _ in range(3)], fleet.take("a picture"), fleet.take("a picture")
    ([0, 1, 0], 1, 1)
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._members = [_Member(address) for address in addresses]
        self._clock = clock
        self._lock = threading.Lock()
        self._homes: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._members)

    def address(self, at: int) -> str:
        return self._members[at].address

    def take(self, affinity: str | None = None, avoid: Collection[int] = ()) -> int:
        """The number of the server that the next call goes to. `give_back` it when the call has ended."""
        with self._lock:
            at = self._choose(affinity, avoid)
            if affinity is not None:
                self._homes[affinity] = at
                self._homes.move_to_end(affinity)
                while len(self._homes) > _KEPT:
                    self._homes.popitem(last=False)
            self._members[at].busy += 1
            return at

    def give_back(self, at: int) -> None:
        with self._lock:
            self._members[at].busy -= 1

    def answered(self, at: int) -> None:
        with self._lock:
            self._members[at].failures = 0

    def failed(self, at: int) -> None:
        """A call showed that the server does not work now."""
        with self._lock:
            member, now = self._members[at], self._clock()
            if now >= member.aside_until:  # calls that failed together are one failure
                member.failures += 1
                member.aside_until = now + min(_LONGEST_ASIDE_S, _ASIDE_S * 2.0 ** (member.failures - 1))

    def has_other(self, avoid: Collection[int]) -> bool:
        """Whether a server works that is not among `avoid`."""
        with self._lock:
            return any(at not in avoid and self._is_ready(at) for at in range(len(self._members)))

    def _choose(self, affinity: str | None, avoid: Collection[int]) -> int:
        everyone = range(len(self._members))
        free = [at for at in everyone if at not in avoid and self._is_ready(at)]
        if not free:
            return min(
                [at for at in everyone if at not in avoid] or everyone, key=lambda at: self._members[at].aside_until
            )
        home = None if affinity is None else self._homes.get(affinity)
        return home if home in free else min(free, key=lambda at: self._members[at].busy)

    def _is_ready(self, at: int) -> bool:
        member = self._members[at]
        return member.failures == 0 or (self._clock() >= member.aside_until and member.busy == 0)


class RefusedError(ServerError):
    """The server answered, but will not do this as it was asked; asking again is useless.

    fields: where it may name the field that it does not take.
    """

    def __init__(self, message: str, status: int = 0, fields: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields


class ServerClient:
    """What clients for chat and for pictures have in common: settings, the key, and errors in our words."""

    def __init__(
        self,
        server: ServerConfig,
        model: str,
        most_bytes: int,
        check: Callable[[bytes, str], None] = lambda body, address: None,
    ) -> None:
        """`check` raises BadReply for the body of an answer, and its address, that cannot be read: it is then asked for again, as
        if the answer had broken off. Raises ConfigError if the key is not in the environment."""
        self.server = server
        self.fleet = Fleet(server.addresses)
        self._check = check
        self.key = server.api_key()
        self.model = model
        self._most_bytes = most_bytes

    def open_async(self, most: int | None = None) -> openai.AsyncOpenAI:
        """A client for one event loop. Of each server its calls get `concurrency` slots at first, up to `most` if it keeps up."""
        import openai

        http, server, fleet = _http(), self.server, self.fleet
        paces = [Pace(server.concurrency, most or server.concurrency) for _ in server.addresses]

        class Bounded(openai.DefaultAsyncHttpxClient):
            async def send(client, request: Any, **options: Any) -> Any:  # noqa: N805
                affinity, avoid = request.headers.pop(AFFINITY, None), set[int]()
                while True:
                    at = fleet.take(affinity, avoid)
                    self._aim(request, at)
                    avoid.add(at)
                    try:
                        answer, body = await client.send_once(at, request, options)
                    except http.RequestError as error:
                        fleet.failed(at)
                        if isinstance(error, http.TimeoutException) or not fleet.has_other(avoid):
                            raise  # the openai client tries again, after a wait
                        continue
                    finally:
                        fleet.give_back(at)
                    if self._is_done(answer, at, avoid):
                        self._require_readable(answer, body)
                        return _whole(answer, body)

            async def send_once(client, at: int, request: Any, options: dict[str, Any]) -> tuple[Any, bytearray]:  # noqa: N805
                pace, address = paces[at], fleet.address(at)
                async with pace.slot() as begun, on_gpu_async(address):
                    try:
                        async with asyncio.timeout(server.timeout_s):
                            options["stream"] = True
                            answer = await super().send(request, **options)
                            for _hop in range(_MOST_REDIRECTS):
                                if (onward := redirect_at_home(answer)) is None:
                                    break
                                await answer.aclose()
                                answer = await super().send(onward, **options)
                            try:
                                body = bytearray()
                                async for chunk in answer.aiter_bytes():
                                    body += chunk
                                    self._check_length(body)
                            except http.RequestError as error:
                                error.broke_off = True
                                raise
                            finally:
                                await answer.aclose()
                    except TimeoutError:
                        pace.pushed_back(begun)
                        raise http.ReadTimeout("no answer in time", request=request) from None
                    except http.RequestError:
                        pace.pushed_back(begun)
                        raise
                    if is_passing(answer.status_code):
                        pace.pushed_back(begun)
                    else:
                        pace.answered()
                return answer, body

        with _explain_environment():
            return openai.AsyncOpenAI(
                http_client=Bounded(timeout=server.timeout_s, follow_redirects=False), **self._settings()
            )

    def open(self, stopped: Callable[[], bool]) -> openai.OpenAI:
        """A client for threads. No call is tried again once `stopped` says so."""
        import openai

        http, server, fleet = _http(), self.server, self.fleet

        class Bounded(openai.DefaultHttpxClient):
            def send(client, request: Any, **options: Any) -> Any:  # noqa: N805
                affinity, avoid = request.headers.pop(AFFINITY, None), set[int]()
                while True:
                    if stopped():
                        raise BackendError("the drawing was interrupted")
                    at = fleet.take(affinity, avoid)
                    self._aim(request, at)
                    avoid.add(at)
                    try:
                        with on_gpu(fleet.address(at)):
                            answer, body = client.send_once(request, options)
                    except http.RequestError as error:
                        fleet.failed(at)
                        if isinstance(error, http.TimeoutException) or not fleet.has_other(avoid):
                            raise  # the openai client tries again, after a wait
                        continue
                    finally:
                        fleet.give_back(at)
                    if self._is_done(answer, at, avoid):
                        self._require_readable(answer, body)
                        return _whole(answer, body)

            def send_once(client, request: Any, options: dict[str, Any]) -> tuple[Any, bytearray]:  # noqa: N805
                deadline = time.monotonic() + server.timeout_s
                options["stream"] = True
                answer = super().send(request, **options)
                for _hop in range(_MOST_REDIRECTS):
                    if (onward := redirect_at_home(answer)) is None:
                        break
                    answer.close()
                    answer = super().send(onward, **options)
                try:
                    body = bytearray()
                    for chunk in answer.iter_bytes():
                        body += chunk
                        self._check_length(body)
                        if time.monotonic() > deadline:
                            raise http.ReadTimeout("no answer in time", request=request)
                except http.RequestError as error:
                    error.broke_off = True
                    raise
                finally:
                    answer.close()
                return answer, body

        with _explain_environment():
            return openai.OpenAI(
                http_client=Bounded(timeout=server.timeout_s, follow_redirects=False), **self._settings()
            )

    def _aim(self, request: Any, at: int) -> None:
        """Directs an httpx request to a server of the fleet. Their addresses differ in scheme, host and port alone."""
        if len(self.fleet) > 1:
            origin = _http().URL(self.fleet.address(at))
            request.url = request.url.copy_with(scheme=origin.scheme, host=origin.host, port=origin.port)
            request.headers["host"] = origin.netloc.decode("ascii")

    def _is_done(self, answer: Any, at: int, avoid: Collection[int]) -> bool:
        """Whether an answer is the one to hand on; if not, another server is to be called. Notes whether the server works."""
        if answer.status_code not in _BROKEN:
            self.fleet.answered(at)
            return True
        self.fleet.failed(at)
        # A 500 may be the request's own fault: others get it only if the client, which waits before, tries again.
        return answer.status_code == 500 or not self.fleet.has_other(avoid)

    def _settings(self) -> dict[str, Any]:
        import openai

        return {
            # Never the OPENAI_... variables: they are meant for another server than the profile's.
            "api_key": self.key or "none",
            "default_headers": {"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit},
            "base_url": self.server.base_url,
            "timeout": self.server.timeout_s,
            "max_retries": self.server.max_retries,
        }

    def _check_length(self, body: bytearray) -> None:
        if len(body) > self._most_bytes:  # a few packed bytes can unpack to any length
            raise BadReply(f"{self.said} with more than {self._most_bytes >> 20} MiB")

    def _require_readable(self, answer: Any, body: bytearray) -> None:
        """Raises what the openai client takes for a fault of the connection if the answer cannot be read."""
        if answer.is_success:
            try:
                self._check(bytes(body), str(answer.request.url))
            except BadReply as bad:
                error = _http().RemoteProtocolError(str(bad), request=answer.request)
                error.bad_reply = bad
                raise error from None

    @property
    def said(self) -> str:
        """The beginning of the sentence "MODEL at URL answered ..."."""
        return f"{self.model} at {self.server.base_url} answered"

    def scrub(self, error: object) -> str:
        """What an error or a reply says, on one line and without keys."""
        return one_line(error)

    def scrub_reply(self, data: Any) -> Any:
        """A reply of the server without the key, should it repeat it."""
        return data if self.key is None or is_stand_in(self.key) else scrub_value(data, (self.key,))

    def map_error(self, error: Exception) -> BackendError:
        """The error in our words: RefusedError, ServerError or BackendError. Raise it `from None`: the cause may hold the
        key."""
        import openai

        server = self.server
        if isinstance(error, BackendError):
            return error
        if isinstance(error, openai.APITimeoutError):
            trouble = f"did not answer within {server.timeout_s:g} s; raise timeout_s, or use a smaller model"
        elif isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            bad: BadReply | None = getattr(cause, "bad_reply", None)
            if bad is not None:
                return BadReply(f"{bad} (at try {_count_tries(error)})")
            if getattr(cause, "broke_off", False):
                trouble = f"broke off its answer ({self.scrub(cause)})"
            else:
                trouble = f"cannot be reached ({self.scrub(cause)}); start it, or check base_url in the profile"
        elif isinstance(error, openai.APIStatusError):
            status, detail = error.status_code, self.scrub(error_detail(error.body, error.message))
            if error.response.has_redirect_location:
                detail = f"it leads to {self.scrub(error.response.headers['location'])}"
            if not is_passing(status):
                refused = f"the server {server.base_url} {explain_refusal(status, detail, server.api_key_env)}"
                return RefusedError(refused, status, scrub(f"{error.param} {error.code} {error.body}"))
            trouble = f"answers with an error ({status}: {detail}); wait, or lower `concurrency` in the profile"
            retry_after = error.response.headers.get("retry-after")
            trouble += f" (it asks to wait {self.scrub(retry_after)} s)" if retry_after else ""
        else:
            what = f"{type(error).__name__}: {self.scrub(error)}"
            return BackendError(f"the request to {server.base_url} failed ({what})")
        others = f" (and {len(self.fleet) - 1} more of base_urls)" if len(self.fleet) > 1 else ""
        return ServerError(f"the server {server.base_url}{others} {trouble}; gave up after try {_count_tries(error)}")


_MOST_REDIRECTS = 5
_BROKEN = (500, 502, 503, 504)
"""Statuses of a server that does not work now."""


def redirect_at_home(answer: Any) -> Any:
    """The request that follows a redirect within the origin (scheme, host and port, RFC 6454) of an httpx answer, else
    None."""
    onward = answer.next_request
    return onward if onward is not None and _origin(onward.url) == _origin(answer.request.url) else None


def _origin(url: Any) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _count_tries(error: Any) -> int:
    return int(error.request.headers.get("x-stainless-retry-count", 0)) + 1


@cache
def _http() -> ModuleType:
    """The HTTP library that openai stands on (httpx, or its successor)."""
    import openai

    return import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])


@contextmanager
def _explain_environment() -> Iterator[None]:
    """Raises ConfigError if a client cannot be made with the environment's proxies and certificates."""
    try:
        yield
    except (ImportError, OSError, ValueError, _http().InvalidURL) as error:
        raise ConfigError(
            "the environment's proxy or certificate settings cannot be used (ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, NO_PROXY, "
            f"SSL_CERT_FILE, SSL_CERT_DIR): {one_line(error)}; mend or unset them"
        ) from error


def _whole(answer: Any, body: bytearray) -> Any:
    """The answer with its body, which has been read and unpacked."""
    packed = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in packed]
    return type(answer)(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


def error_detail(body: object, message: str) -> object:
    """What a server says for itself in the body of an error; `message` if that is empty."""
    return (body.get("message") or body.get("detail") or body) if isinstance(body, dict) else body or message


def explain_refusal(status: int, detail: str, api_key_env: str | None) -> str:
    """The end of the sentence "the server ... " for a status that asking again does not mend."""
    if 300 <= status < 400:
        return f"sends on to another ({status}: {detail}), which is not followed; if you trust it, make it base_url"
    if status in (401, 403):
        key = api_key_env
        mend = f"check the environment variable {key}" if key else "name its variable as api_key_env in the profile"
        return f"refuses the API key ({status}: {detail}); {mend}"
    if status == 404:
        return f"does not have this (404: {detail}); check `model`, and that base_url ends in /v1"
    return f"refuses the request ({status}: {detail})"


def is_passing(status: int) -> bool:
    """Whether an error of that status may be gone at the next try."""
    return status in (408, 409, 429) or status >= 500


_LISTING_S = 5.0


def list_models(server: ServerConfig) -> tuple[str, ...]:
    """The names under which a server serves its models, by one GET within five seconds; of several servers, those of the first.
    Raises ConfigError if its key is not in the environment, ServerError if it cannot be reached or refuses."""
    import openai

    changes: dict[str, object] = {"timeout_s": min(_LISTING_S, server.timeout_s), "max_retries": 0, "base_urls": ()}
    quick = server.model_copy(update=changes)
    client = ServerClient(quick, "a server", 1 << 24)
    with client.open(lambda: False) as opened:
        try:
            return tuple(str(model.id) for model in opened.models.list())
        except (openai.OpenAIError, BackendError) as error:
            raise client.map_error(error) from None


@dataclass(frozen=True)
class ServedRole:
    """A model of a profile that a server has. `asks`, if given, asks the model itself something small: for servers whose list
    of models does not have its name, since lists leave out aliases."""

    role: str
    server: ServerConfig
    model: str
    asks: Callable[[], Awaitable[object]] | None = None


class ServerProbe:
    """Asks the servers of a profile, all at once, whether they are there and know their model, before anything is paid for.
    What was well within the last minute is not asked again.

    Raises ServerError for a server that cannot be reached or wants another key, and for a model that it does not serve; of
    several servers of one model, one is enough. Servers without a list of models pass.
    """

    KEEP_S = 60.0

    def __init__(self, roles: Sequence[ServedRole], clock: Callable[[], float] = time.monotonic) -> None:
        self._roles = roles
        self._clock = clock
        self._well_until = float("-inf")

    async def __call__(self) -> None:
        if not self._roles or self._clock() < self._well_until:
            return
        await asyncio.gather(*map(self._look_at, self._roles))
        self._well_until = self._clock() + self.KEEP_S

    async def _look_at(self, role: ServedRole) -> None:
        found = await asyncio.gather(*(asyncio.to_thread(_listed, server) for server in role.server.each()))
        errors = [names for names in found if isinstance(names, ServerError)]
        if len(errors) == len(found):
            raise type(errors[0])(f"{role.role}: {errors[0]}")
        names = next(names for names in found if not isinstance(names, ServerError))
        if not names or role.model in names or role.asks is None:
            return
        try:
            await role.asks()
        except RefusedError as error:
            if error.status != 404:
                raise
            raise ServerError(
                f"{role.role}: {role.server.base_url} does not serve {role.model!r}; it serves {', '.join(names[:8])}: name "
                "one of these as `model` in the profile"
            ) from None
        except BadReply:
            pass  # it is there


def _listed(server: ServerConfig) -> tuple[str, ...] | ServerError:
    """What a server lists; () if it lists nothing; the error if it cannot be reached or refuses the key."""
    import openai

    client = ServerClient(
        server.model_copy(update={"timeout_s": min(_LISTING_S, server.timeout_s)}), "a server", 1 << 24
    )
    with client.open(lambda: False) as opened:
        try:
            return tuple(str(model.id) for model in opened.models.list())
        except openai.APITimeoutError:
            return ()  # it is there, and busy
        except (openai.APIConnectionError, openai.AuthenticationError, openai.PermissionDeniedError) as error:
            mapped = client.map_error(error)
            return mapped if isinstance(mapped, ServerError) else ()
        except (openai.OpenAIError, BackendError):
            return ()
