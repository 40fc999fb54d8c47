"""Several servers behind `base_urls` against one, and what is lost if one of them is killed midway.

    python benchmarks/fleet.py [--servers 4] [--requests 96] [--slots 2] [--seconds 0.25]

The servers are stubs in processes of their own: each answers `slots` chats at once, and takes `seconds` for each, as a model on
a GPU would. So the figures show the client alone: how well it shares, and what a death costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections import Counter

from redraft.chat import ChatRequest, Message
from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, ServerConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--slots", type=int, default=2, help="chats that a server answers at once")
    parser.add_argument("--seconds", type=float, default=0.25, help="what a chat takes on a server")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    stubs, addresses = [], []
    for number in range(options.servers):
        mine, theirs = context.Pipe()
        stub = context.Process(target=serve, args=(theirs, number, options.slots, options.seconds), daemon=True)
        stub.start()
        stubs.append(stub)
        addresses.append(f"http://127.0.0.1:{mine.recv()}/v1")
    try:
        one, _ = asyncio.run(ask(addresses[:1], options.requests, options.slots))
        print(f"1 server:  {options.requests} requests in {one:.2f} s", flush=True)
        several, who = asyncio.run(ask(addresses, options.requests, options.slots))
        shares = " ".join(map(str, sorted(who.values())))
        print(
            f"{options.servers} servers: {several:.2f} s, {one / several:.2f} times as fast; shares {shares}",
            flush=True,
        )
        killed, who = asyncio.run(ask(addresses, options.requests, options.slots, kill=stubs[0]))
        lost = options.requests - sum(who.values())
        print(f"one killed after half of them: {killed:.2f} s, {one / killed:.2f} times as fast; lost {lost}")
    finally:
        for stub in stubs:
            stub.kill()


async def ask(
    addresses: list[str], count: int, slots: int, kill: multiprocessing.process.BaseProcess | None = None
) -> tuple[float, Counter[str]]:
    """Seconds for `count` requests, and who answered how many. `kill` is killed after half of the answers."""
    server = ServerConfig.model_validate({"base_urls": addresses, "concurrency": slots})
    chat = OpenAIChat(ModelConfig(kind="openai", model="stub", server=server))
    who: Counter[str] = Counter()

    async def one(number: int) -> None:
        reply = await chat(ChatRequest((Message("user", f"request {number}"),)))
        who[reply.text] += 1
        if kill is not None and sum(who.values()) == count // 2:
            kill.kill()

    await one(-1)  # the client's own start does not count
    who.clear()
    started = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    seconds = time.perf_counter() - started
    await chat.aclose()
    return seconds, who


def serve(pipe: object, number: int, slots: int, seconds: float) -> None:
    """A chat server as far as OpenAIChat needs one."""

    async def work() -> None:
        free = asyncio.Semaphore(slots)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                    length = int(head.partition("content-length:")[2].split("\r\n", 1)[0])
                    await reader.readexactly(length)
                    async with free:
                        await asyncio.sleep(seconds)
                    message = {"role": "assistant", "content": f"server {number}"}
                    choice = {"index": 0, "finish_reason": "stop", "message": message}
                    body = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        await server.serve_forever()

    asyncio.run(work())


if __name__ == "__main__":
    main()
