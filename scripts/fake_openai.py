"""An OpenAI-style server with no model behind it, for scripts/ci_wheel.sh: python scripts/fake_openai.py

Prints its address, then serves until it is killed. It rewrites a request by adding a few words, makes a checklist of one
check, judges every check as right, and draws a plain picture of the size that is wanted.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FENCED = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)


def plain_png(size: str) -> str:
    """A grey picture, base64 of a PNG; `size` as in "1024x1024"."""
    width, height = map(int, size.split("x"))
    rows = (b"\0" + b"\x80\x80\x80" * width) * height

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def text_of(content: str | list[dict[str, Any]]) -> str:
    """What a message says, without its pictures."""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def chat(body: dict[str, Any]) -> dict[str, Any]:
    """A rewrite; or a yes with its probability, if these are asked for; or a checklist, if it is to be JSON."""
    logprobs = None
    if body.get("logprobs"):
        likely = [{"token": "yes", "logprob": -0.01}, {"token": "no", "logprob": -4.6}]
        text, logprobs = "yes", {"content": [{"token": "yes", "logprob": -0.01, "top_logprobs": likely}]}
    elif body.get("response_format"):
        check = {"key_point": "presence", "question": "Is there a red star?"}
        text = json.dumps({"reason": "It asks for a star.", "checks": [check]})
    else:
        fenced = FENCED.findall(text_of(body["messages"][-1]["content"]))
        text = f"<think>More light.</think><answer>{fenced[-1][1]}, in soft light</answer>"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"model": body["model"], "choices": [choice | {"logprobs": logprobs}], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    """POSTs of the two paths that the profile `remote` uses."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reply: dict[str, Any] = {"error": {"message": "no such path"}}
        status = 200
        if self.path == "/v1/chat/completions":
            reply = chat(body)
        elif self.path == "/v1/images/generations":
            reply = {"created": 0, "data": [{"b64_json": plain_png(body.get("size", "64x64"))}]}
        else:
            status = 404
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}/v1\n")
    sys.stdout.flush()
    server.serve_forever()
