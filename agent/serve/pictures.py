"""Pictures that clients hand in: as bytes, and by URL if the server allows it."""

from __future__ import annotations

import asyncio
import base64
import http.client
import ipaddress
import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from agent.serve.errors import NotAPicture
from agent.serve.settings import ServerSettings
from redraft.decoder import PictureDecoder
from redraft.errors import InputError, one_line
from redraft.images import UnreadableImage

_DATA = re.compile(r"data:(?P<type>[^,;]*)(?:;[^,;]*)*?(?P<base64>;base64)?,", re.IGNORECASE)
_MOST_QUOTED = 2**18
"""Characters of a data: URL with percent signs in it, each of which takes its time."""
_PROCESSES = 2
_CONNECT_S = 5.0
_WHOLE_S = 20.0


class PictureReader:
    """Opens pictures within the server's bounds. They are decoded in processes of their own (`redraft.decoder`)."""

    def __init__(self, settings: ServerSettings) -> None:
        self._bounds = settings.bounds
        self._decoder = PictureDecoder(_PROCESSES, max_pixels=settings.bounds.max_image_pixels)
        # Not the threads that everything else waits in: a picture may take seconds.
        self._threads = ThreadPoolExecutor(_PROCESSES, thread_name_prefix="redraft-pictures")
        self._hosts = frozenset(host.lower() for host in settings.image_hosts)

    async def read(self, data: bytes, *, what: str = "the picture") -> Image.Image:
        """RGB, upright, without metadata. Raises NotAPicture, or InputError if it is too large."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._open, data, what, False)

    async def read_mask(self, data: bytes, *, what: str = "the mask") -> Image.Image:
        """L, white = change. Raises as `read` does."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._open, data, what, True)

    def close(self) -> None:
        """Ends the processes. A later `read` starts others."""
        self._decoder.close()

    async def fetch(self, url: str) -> Image.Image:
        """The picture of a data: URL; of an http(s) URL only if its host was allowed when the server was started.

        Raises InputError for every other URL, and if an allowed host's name leads to an address that is not
        public, so that nobody can make the server ask machines that only it can reach.
        """
        if url[:5].lower() == "data:":
            return await self.read(await asyncio.to_thread(self._inline, url))
        host = self._allowed(url)
        try:
            data = await asyncio.wait_for(asyncio.to_thread(self._get, url, host), _WHOLE_S)
        except TimeoutError:
            raise InputError(f"the picture at {host} did not come within {_WHOLE_S:g} seconds") from None
        return await self.read(data)

    def _open(self, data: bytes, what: str, mask: bool) -> Image.Image:
        if len(data) > self._bounds.max_image_bytes:
            raise InputError(f"{what} has more than {self._bounds.max_image_bytes / 2**20:g} MiB")
        try:
            return self._decoder.decode(data, what=what, mask=mask)
        except UnreadableImage as error:
            raise NotAPicture(str(error)) from error

    def _inline(self, url: str) -> bytes:
        head = _DATA.match(url[:256])
        if head is None or len(url) > 2 * self._bounds.max_image_bytes:
            raise InputError("that data: URL holds no picture, or too large a one")
        rest = url[head.end() :]
        if not head["base64"] and len(rest) > _MOST_QUOTED:
            raise InputError("that data: URL is too long for one without ;base64")
        try:
            return base64.b64decode(rest, validate=True) if head["base64"] else unquote_to_bytes(rest)
        except ValueError:
            raise InputError("that data: URL is not base64") from None

    def _allowed(self, url: str) -> str:
        refused = "pictures are not fetched by URL here; upload it, or send it as a data: URL"
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise InputError(refused) from None
        if parts.scheme not in ("http", "https") or host not in self._hosts or parts.username is not None:
            raise InputError(refused)
        if port not in (None, 80, 443):
            raise InputError(refused)
        return host

    def _get(self, url: str, host: str) -> bytes:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        connection: http.client.HTTPConnection
        try:
            address = public_address(host, port)
            connection = _Pinned(address, host, port, secure)
            try:
                target = parts.path or "/"
                connection.request("GET", f"{target}?{parts.query}" if parts.query else target)
                answer = connection.getresponse()
                if answer.status != 200:  # a redirect would lead past the checks
                    raise InputError(f"{host} answered with status {answer.status} instead of a picture")
                data = answer.read(self._bounds.max_image_bytes + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(f"the picture cannot be fetched from {host}: {one_line(error)}") from error
        return data


def public_address(host: str, port: int) -> str:
    """An address of `host`. Raises InputError if one of its addresses is not a public one."""
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in addresses:
        if not ipaddress.ip_address(address.partition("%")[0]).is_global:
            raise InputError(f"{host} leads to an address inside of a network; such pictures are not fetched")
    return min(addresses)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked: the name is not looked up again, it could lead elsewhere then."""

    def __init__(self, address: str, host: str, port: int, secure: bool) -> None:
        super().__init__(host, port, timeout=_CONNECT_S)
        self._address = address
        self._secure = secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
