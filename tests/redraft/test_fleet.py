"""Several servers of one model: who gets a call, and what becomes of it if one of them does not work."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from pydantic import ValidationError

from redraft.errors import ServerError
from redraft.openai_chat import OpenAIChat
from redraft.profiles import ModelConfig, ServerConfig, load_profile
from redraft.servers import Fleet
from tests.redraft.conftest import Answer, Call, Server
from tests.redraft.openai_chats import ASK, Serve, error, reply
from tests.redraft.test_openai_pictures import BLUE, RED, CachingServer, chats, pictures, question

DEAD = "http://127.0.0.1:9/v1"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fleet_of(count: int) -> tuple[Fleet, Clock]:
    clock = Clock()
    return Fleet([f"http://server{at}/v1" for at in range(count)], clock), clock


def chat_to_all(*addresses: str, **settings: int) -> OpenAIChat:
    server = ServerConfig.model_validate({"base_urls": addresses, **settings})
    return OpenAIChat(ModelConfig(kind="openai", model="m", server=server))


def test_the_least_busy_server_gets_the_next_call() -> None:
    fleet, _ = fleet_of(3)
    assert [fleet.take() for _ in range(4)] == [0, 1, 2, 0]
    fleet.give_back(1)
    assert fleet.take() == 1


def test_a_server_that_failed_is_set_aside_for_twice_as_long_each_time() -> None:
    fleet, clock = fleet_of(2)
    for wait in (1.0, 2.0, 4.0):
        at = fleet.take(avoid=[1])
        fleet.failed(at)
        fleet.give_back(at)
        clock.now += wait / 2
        assert [fleet.take() for _ in range(3)] == [1, 1, 1]
        clock.now += wait / 2
    assert fleet.take() == 0
    assert fleet.take() == 1  # until it has answered, it has one call at a time
    fleet.answered(0)
    assert fleet.take() == 0


def test_if_all_servers_are_set_aside_the_first_that_comes_back_is_tried() -> None:
    fleet, clock = fleet_of(2)
    fleet.failed(1)
    clock.now = 0.5
    fleet.failed(0)
    assert not fleet.has_other([])
    assert fleet.take() == 1


def test_calls_of_one_affinity_stay_together_until_their_server_fails() -> None:
    fleet, _ = fleet_of(3)
    fleet.take()
    homes = {name: {fleet.take(name) for _ in range(5)} for name in ("a", "b")}
    assert homes == {"a": {1}, "b": {2}}
    fleet.failed(1)
    moved = {fleet.take("a") for _ in range(5)}
    assert len(moved) == 1
    assert moved != {1}


async def test_a_dead_server_costs_no_request_and_no_wait(serve: Serve) -> None:
    servers = [serve(lambda _: reply()), serve(lambda _: reply())]
    chat = chat_to_all(DEAD, *(server.url for server in servers), max_retries=0)
    replies = await asyncio.gather(*(chat(ASK) for _ in range(12)))
    assert [got.text for got in replies] == ["hello"] * 12
    assert sum(len(server.calls) for server in servers) == 12
    await chat.aclose()


@pytest.mark.parametrize("fault", [None, error(502), error(503)])
async def test_a_server_that_stops_in_the_middle_loses_no_request(serve: Serve, fault: Answer | None) -> None:
    answered: Counter[str] = Counter()

    def dying(call: Call) -> Answer | None:
        answered["dying"] += 1
        return reply() if answered["dying"] <= 3 else fault

    servers = [serve(dying), serve(lambda _: reply()), serve(lambda _: reply())]
    chat = chat_to_all(*(server.url for server in servers), max_retries=0, concurrency=2)
    for _ in range(4):
        replies = await asyncio.gather(*(chat(ASK) for _ in range(6)))
        assert [got.text for got in replies] == ["hello"] * 6
    assert answered["dying"] > 3
    await chat.aclose()


async def test_a_refusal_is_not_carried_to_the_other_servers(serve: Serve) -> None:
    servers = [serve(lambda _: error(404, "no such model")), serve(lambda _: reply())]
    chat = chat_to_all(*(server.url for server in servers))
    with pytest.raises(ServerError, match="404"):
        await chat(ASK)
    assert not servers[1].calls
    await chat.aclose()


async def test_if_no_server_works_the_error_says_how_many_there_are() -> None:
    chat = chat_to_all(DEAD, "http://127.0.0.1:1/v1", max_retries=0)
    with pytest.raises(ServerError, match=r"and 1 more of base_urls.*cannot be reached"):
        await chat(ASK)


async def test_a_picture_stays_on_the_server_that_has_it_and_moves_if_that_one_dies(serve: Serve) -> None:
    caches = [CachingServer(), CachingServer()]
    dead: set[int] = set()

    def handler(at: int) -> Server:
        return serve(lambda call: None if at in dead else caches[at](call))

    servers = [handler(0), handler(1)]
    chat = chat_to_all(*(server.url for server in servers), max_retries=0)
    await chat(question(BLUE))
    for picture in (RED, BLUE):
        await asyncio.gather(*(chat(question(picture, number)) for number in range(6)))
    with_bytes = [
        part["uuid"]
        for server in servers
        for call in chats(server)
        for part in pictures(call)
        if part["image_url"] and "uuid" in part
    ]
    assert len(with_bytes) == len(set(with_bytes)) == 2
    dead.add(max((0, 1), key=lambda at: len(chats(servers[at]))))
    replies = await asyncio.gather(*(chat(question(picture, 9)) for picture in (RED, BLUE)))
    assert len(replies) == 2
    await chat.aclose()


def test_several_addresses_in_a_profile() -> None:
    server = ServerConfig.model_validate({"base_urls": ["http://a:1/v1", "http://b:2/v1"], "concurrency": 4})
    assert server.base_url == "http://a:1/v1"
    assert server.slots == 8
    assert [one.addresses for one in server.each()] == [("http://a:1/v1",), ("http://b:2/v1",)]
    assert ServerConfig.model_validate_json(server.model_dump_json()) == server
    keyed = server.model_copy(update={"api_key_env": "SOME_KEY"})
    assert [demand.place for demand in keyed.demands()] == list(server.base_urls)
    assert load_profile("mini").rewriter.model.server is None


@pytest.mark.parametrize(
    ("addresses", "noun"),
    [
        (["http://a/v1", "http://a/v1/"], "twice"),
        (["http://a/v1", "http://b/v2"], "paths"),
        (["http://a/v1", "b"], "http://"),
    ],
)
def test_addresses_that_cannot_be_meant(addresses: list[str], noun: str) -> None:
    with pytest.raises(ValidationError, match=noun):
        ServerConfig.model_validate({"base_urls": addresses})


def test_base_url_beside_base_urls_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="both"):
        ServerConfig.model_validate({"base_url": "http://c/v1", "base_urls": ["http://a/v1"]})
