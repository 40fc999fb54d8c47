"""Pictures of strangers, decoded in processes of their own, which may be killed: by the system if they take too much memory
or processor time, by us if they take too long. Nothing that a decoder does wrong reaches this process.

    decoder = PictureDecoder()
    picture = decoder.decode(data)          # as `redraft.images.read_image`; from any thread
    decoder.close()

The bounds of `redraft.images` (bytes, pixels, frames, scans) hold there too. A process starts with the first picture, in a
tenth of a second, and is kept for the next; one that was killed is replaced. Pictures of one's own need none of this.

A picture and its pixels cross a pipe: `benchmarks/decoder.py` measures what that costs. On systems without `resource`
(Windows), only the time is bounded.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from typing import IO, Any

from PIL import Image

from redraft.errors import BackendError, InputError
from redraft.images import MAX_PIXELS, UnreadableImage, read_image, read_mask
from redraft.processes import isolated_command

SECONDS = 10
"""Processor time for one picture. The largest that are taken need 2 s on a slow core."""
_WALL = 6
"""How much longer it may take by the clock, on a busy machine."""
_BYTES_PER_PIXEL = 24
"""Decoding, turning and flattening hold a few copies at a time."""
_BYTES_FOR_ITSELF = 512 * 2**20
_TAKEN = b"taken\n"
_CODE = "from redraft.decoder import work; work()"


class PictureDecoder:
    """At most `processes` pictures at a time; calls of other threads wait."""

    def __init__(self, processes: int = 2, *, seconds: int = SECONDS, max_pixels: int = MAX_PIXELS) -> None:
        self._seconds = seconds
        self._max_pixels = max_pixels
        self._free: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        """Processes that wait for a picture; None for one that is not started."""
        for _ in range(processes):
            self._free.put(None)
        self._closed = False

    def decode(self, data: bytes, *, what: str = "the picture", mask: bool = False) -> Image.Image:
        """The picture in a file's bytes as `read_image` gives it, or as `read_mask` does. Raises InputError as they do, and if
        it takes more memory or time than a picture may; BackendError if no process can be started."""
        process = self._free.get()
        answer: dict[str, Any] | None = None
        try:
            if process is None or not self._send(process, data, what, mask):  # none yet, or it has ended meanwhile
                process = self._start(process)
                self._send(process, data, what, mask)
            answer, pixels = self._receive(process)
        finally:
            if process is not None and (answer is None or self._closed):
                _kill(process)
                process = None
            self._free.put(process)
        if answer is None:
            raise InputError(
                f"{what} takes more memory or time to decode than a picture may ({self._seconds} s); save it again, smaller"
            )
        if "error" in answer:
            raise (UnreadableImage if answer["unreadable"] else InputError)(answer["error"])
        return Image.frombytes(answer["mode"], tuple(answer["size"]), pixels)

    def close(self) -> None:
        """Ends the processes; those that are at a picture end with it. A later `decode` starts others."""
        self._closed = True
        for _ in range(self._free.qsize()):
            process = self._free.get()
            if process is not None:
                _kill(process)
            self._free.put(None)

    def _start(self, dead: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
        if dead is not None:
            _kill(dead)  # closes its pipes
        try:
            process = subprocess.Popen(
                isolated_command(_CODE), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise BackendError(f"cannot start a process that decodes pictures: {error.strerror}") from error
        self._closed = False
        return process

    def _send(self, process: subprocess.Popen[bytes], data: bytes, what: str, mask: bool) -> bool:
        """Gives a process its picture, and waits until it has all of it. False if it has ended before, which is not the
        picture's fault."""
        assert process.stdin is not None
        assert process.stdout is not None
        head = {
            "bytes": len(data), "what": what, "mask": mask, "max_pixels": self._max_pixels, "seconds": self._seconds,
        }  # fmt: skip
        try:
            process.stdin.write(_to_line(head))
            process.stdin.write(data)
            process.stdin.flush()
            return process.stdout.readline() == _TAKEN
        except OSError:
            return False

    def _receive(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any] | None, bytes]:
        """The answer of a process and its pixels; None if the process ended before it had given them."""
        assert process.stdout is not None
        timer = threading.Timer(self._seconds * _WALL, process.kill)
        timer.daemon = True
        timer.start()
        try:
            line = process.stdout.readline()
            answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"bytes": -1}
            count = answer.get("bytes", 0)
            pixels = _read_exactly(process.stdout, max(0, count))
            return (answer, pixels) if len(pixels) == count else (None, b"")
        except OSError:
            return None, b""
        finally:
            timer.cancel()


def work() -> None:
    """What a process does: pictures, one after another, until its input ends."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what anything prints must not get between the answers
    while line := source.readline():
        head = json.loads(line)
        data = _read_exactly(source, head["bytes"])
        out.write(_TAKEN)
        out.flush()
        _limit(head["seconds"], head["max_pixels"])
        pixels = b""
        try:
            read = read_mask if head["mask"] else read_image
            picture = read(bytes(data), what=head["what"], max_pixels=head["max_pixels"])
            pixels = picture.tobytes()
            answer: dict[str, Any] = {"bytes": len(pixels), "mode": picture.mode, "size": picture.size}
        except InputError as error:
            answer = {"error": str(error), "unreadable": isinstance(error, UnreadableImage)}
        except MemoryError:
            return
        out.write(_to_line(answer))
        out.write(pixels)
        out.flush()


def _limit(seconds: int, max_pixels: int) -> None:
    """Bounds this process, for the next picture."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    bounds = {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + seconds,
        resource.RLIMIT_AS: _BYTES_FOR_ITSELF + _BYTES_PER_PIXEL * max_pixels,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    for bound, value in bounds.items():
        _, hard = resource.getrlimit(bound)
        resource.setrlimit(bound, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _to_line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _read_exactly(source: IO[bytes], count: int) -> bytes:
    """Fewer bytes if the source ends before."""
    data = bytearray(count)
    view, at = memoryview(data), 0
    while at < count and (got := source.readinto(view[at:])):  # type: ignore[attr-defined]
        at += got
    view.release()
    return bytes(data) if at == count else bytes(data[:at])


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent any more
            if pipe is not None:
                pipe.close()
