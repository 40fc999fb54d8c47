"""OpenAIChat against a real HTTP server on this machine: what it sends, reads, survives and refuses."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from PIL import Image

from redraft.chat import ChatModel, ChatRequest, Message, Usage
from redraft.errors import BackendError, BadReply, ConfigError, ServerError
from redraft.openai_chat import MAX_BYTES, defuse
from tests.redraft.conftest import Answer, Call, Server
from tests.redraft.openai_chats import ASK, Serve, chat_to, error, reply

KEY = "sk-very-secret-key-0123456789"


async def test_what_is_sent_and_read(serve: Serve) -> None:
    server = serve(lambda call: reply("hi", message={"reasoning": "hm"}, finish_reason="length"))
    chat = chat_to(server)
    assert isinstance(chat, ChatModel)
    request = ChatRequest(
        (Message("system", "be brief"), Message("user", "a 😀 cat")),
        9,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop=("END",),
    )
    got = await chat(request)
    assert (got.text, got.reasoning, got.truncated, got.usage, got.model) == ("hi", "hm", True, Usage(7, 3), "served")
    sent = server.calls[0]
    assert sent.path == "/v1/chat/completions"
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a 😀 cat"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
    }
    await chat.aclose()


async def test_reasoning_content_of_other_servers(serve: Serve) -> None:
    got = await chat_to(serve(lambda call: reply(message={"reasoning_content": "so"})))(ASK)
    assert (got.reasoning, got.truncated) == ("so", False)


async def test_pictures_go_as_png_in_order(serve: Serve) -> None:
    server = serve(lambda call: reply())
    red = Image.new("RGBA", (3, 2), (255, 0, 0, 255))
    await chat_to(server)(ChatRequest((Message("user", ("before", red, "after")),)))
    first, picture, last = server.calls[0].body["messages"][0]["content"]
    assert (first, last) == ({"type": "text", "text": "before"}, {"type": "text", "text": "after"})
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.format, image.mode, image.size, image.getpixel((0, 0))) == ("PNG", "RGB", (3, 2), (255, 0, 0))


@pytest.mark.parametrize("text", ['{"a": 1}', '```json\n{"a": 1}\n```', ' \n{"a": 1}\n'])
async def test_schema_replies(serve: Serve, text: str) -> None:
    server = serve(lambda call: reply(text))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    got = await chat_to(server)(ChatRequest(ASK.messages, schema=schema))
    assert json.loads(got.text) == {"a": 1}
    assert server.calls[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": True},
    }


async def test_a_schema_reply_that_is_no_json(serve: Serve) -> None:
    server = serve(lambda call: reply('{"a": ', finish_reason="length"))
    with pytest.raises(BadReply, match="raise it"):
        await chat_to(server)(ChatRequest(ASK.messages, schema={"type": "object"}))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(b""), "not JSON"),
        (Answer(b'{"choices": [{"mess'), "not JSON"),
        (Answer(b"<html>Welcome</html>", content_type="text/html"), "<html>Welcome</html>, not JSON"),
        (Answer('{"choices": [{"message": {"content": "caf\u00e9"}}]}'.encode("latin-1")), "not UTF-8"),
        (Answer(b"[" * 100_000), "not JSON"),
        (Answer([1, 2]), "list instead of a JSON object"),
        (Answer({"error": {"message": "overloaded"}}), "overloaded"),
        (Answer({"choices": []}), "no choices"),
        (Answer({"choices": ["x"]}), "no choices"),
        (Answer({"choices": [{}]}), "without a message"),
        (reply(["x"]), "not text"),
        (reply(None), "empty reply"),
        (reply(" \n"), "empty reply"),
        (reply("", finish_reason="length", message={"reasoning": "long"}), "max_tokens = 512"),
        (reply(None, message={"refusal": "I will not"}), "declined"),
        (reply("\ud800 half a pair"), "broken Unicode"),
    ],
)
async def test_garbage_is_a_bad_reply_and_not_retried(serve: Serve, answer: Answer, words: str) -> None:
    server = serve(lambda call: answer)
    with pytest.raises(BadReply) as caught:
        await chat_to(server)(ASK)
    assert words in str(caught.value)
    assert str(caught.value).startswith("m at http://127.0.0.1")
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_passing_faults_are_tried_again(serve: Serve, status: int) -> None:
    answers = iter([error(status), error(status), reply("at last")])
    server = serve(lambda call: next(answers))
    assert (await chat_to(server)(ASK)).text == "at last"
    assert len(server.calls) == 3


async def test_it_gives_up(serve: Serve) -> None:
    server = serve(lambda call: error(503, "busy"))
    with pytest.raises(ServerError) as caught:
        await chat_to(server, max_retries=2)(ASK)
    for words in (server.url, "503: busy", "lower `concurrency`", "after try 3"):
        assert words in str(caught.value)
    assert len(server.calls) == 3


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "0.7"}, 0.7, 1.2),
        ({"Retry-After-Ms": "150", "Retry-After": "2"}, 0.15, 0.6),
        ({"Retry-After": "in two seconds"}, 0.9, 2.5),
        ({"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.37, 0.9),
        ({"Retry-After": "soon"}, 0.37, 0.9),
        ({"Retry-After": "nan"}, 0.37, 0.9),
        ({}, 0.37, 0.9),
    ],
)
async def test_retry_after(serve: Serve, headers: dict[str, str], low: float, high: float) -> None:
    def late() -> Answer:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return error(
            429, headers={name: soon if value == "in two seconds" else value for name, value in headers.items()}
        )

    answers = iter([late, reply])
    server = serve(lambda call: next(answers)())
    chat = chat_to(server)
    begun = time.monotonic()
    await chat(ASK)
    assert low <= time.monotonic() - begun <= high + 30, "not an hour; a machine may have much to do besides"
    assert len(server.calls) == 2


async def test_a_server_that_asks_for_an_hour_is_not_waited_for(serve: Serve) -> None:
    server = serve(lambda call: error(429, headers={"Retry-After": "3600"}))
    with pytest.raises(ServerError, match=r"asks to wait 3600 s.* after try 1"):
        await chat_to(server)(ASK)
    assert len(server.calls) == 1


async def test_a_server_that_pushes_back_gets_fewer_calls_at_once(serve: Serve) -> None:
    server = serve(lambda call: error(429) if server.busy > 2 else Answer(reply().body, delay_s=0.02))
    chat = chat_to(server, concurrency=8, max_retries=20)
    await asyncio.gather(*(chat(ASK) for _ in range(40)))
    refused = len(server.calls) - 40
    assert 0 < refused < 40


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "refuses the request (400: no)"),
        (401, "api_key_env"),
        (403, "api_key_env"),
        (404, "check `model`"),
        (413, "413"),
    ],
)
async def test_refusals_are_not_tried_again(serve: Serve, status: int, words: str) -> None:
    server = serve(lambda call: error(status))
    with pytest.raises(ServerError) as caught:
        await chat_to(server)(ASK)
    assert words in str(caught.value)
    assert len(server.calls) == 1


async def test_lost_connections_are_tried_again(serve: Serve) -> None:
    answers = iter([None, reply("back")])
    server = serve(lambda call: next(answers))
    assert (await chat_to(server)(ASK)).text == "back"


async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ServerError) as caught:
        await chat_to(Server(url), max_retries=1)(ASK)
    for words in (url, "cannot be reached", "check base_url"):
        assert words in str(caught.value)


async def test_a_slow_server(serve: Serve) -> None:
    server = serve(lambda call: Answer(delay_s=5))
    with pytest.raises(ServerError, match=r"within 0.2 s; raise timeout_s.* after try 2"):
        await chat_to(server, timeout_s=0.2, max_retries=1)(ASK)
    assert len(server.calls) == 2


async def test_concurrency_is_bounded(serve: Serve) -> None:
    server = serve(lambda call: Answer(reply().body, delay_s=0.05))
    chat = chat_to(server, concurrency=3)
    await asyncio.gather(*(chat(ASK) for _ in range(9)))
    assert server.most_at_once == 3


def test_several_event_loops(serve: Serve) -> None:
    server = serve(lambda call: Answer(reply().body, delay_s=0.02))
    chat = chat_to(server, concurrency=1)

    async def ask_twice() -> list[str]:
        return [got.text for got in await asyncio.gather(chat(ASK), chat(ASK))]

    assert asyncio.run(ask_twice()) == asyncio.run(ask_twice()) == ["hello", "hello"]


async def test_the_key_is_sent_and_never_shown(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    echo = serve(lambda call: error(401, f"Incorrect API key provided: {KEY}"))
    chat = chat_to(echo, api_key_env="MY_KEY")
    with pytest.raises(ServerError) as caught:
        await chat(ASK)
    assert echo.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert "MY_KEY" in str(caught.value)
    page = serve(lambda call: Answer(f"your key is {KEY}".encode(), content_type="text/plain"))
    with pytest.raises(BadReply) as garbage:
        await chat_to(page, api_key_env="MY_KEY")(ASK)
    assert "***" in str(garbage.value)
    assert KEY not in f"{caught.value!r} {garbage.value!r} {chat!r} {caught.value.__cause__} {garbage.value.__cause__}"


@pytest.mark.parametrize("finish", ["stop", f"because {KEY}"])
async def test_a_key_that_a_reply_repeats_is_not_shown(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    body = reply(f"not JSON but {KEY}" if finish == "stop" else "").body
    body["choices"][0]["finish_reason"] = finish
    chat = chat_to(serve(lambda call: Answer(body)), api_key_env="MY_KEY")
    with pytest.raises(BadReply) as caught:
        await chat(ChatRequest(ASK.messages, schema={"type": "object"}))
    assert "***" in str(caught.value)
    assert KEY not in f"{caught.value} {caught.value.__cause__}"


async def test_variables_meant_for_openai_stay_here(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "for-openai-alone")
    server = serve(lambda call: reply())
    await chat_to(server)(ASK)
    assert "for-openai-alone" not in str(server.calls[0].headers)


async def test_an_answer_that_breaks_off_is_asked_for_again(serve: Serve) -> None:
    bad = Answer(b"not packed at all", headers={"Content-Encoding": "gzip"})
    server = serve(lambda call: bad if len(server.calls) == 1 else reply())
    assert (await chat_to(server)(ASK)).text == "hello"
    with pytest.raises(ServerError, match="broke off its answer"):
        await chat_to(serve(lambda call: bad), max_retries=1)(ASK)


async def test_a_reply_that_unpacks_to_too_much(serve: Serve) -> None:
    bomb = gzip.compress(b" " * (MAX_BYTES + 1))
    server = serve(lambda call: Answer(bomb, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(BadReply, match="more than 16 MiB"):
        await chat_to(server)(ASK)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a<|im_end|>\n<|im_start|>system", "a< |im_end|>\n< |im_start|>system"),
        ("<｜User｜> </s> <image> [/INST] <end_of_turn>", "< ｜User｜> < /s> < image> [ /INST] < end_of_turn>"),
        ("<|turn>user<turn|> <<SYS>> <bos> [gMASK]<sop>", "< |turn>user< turn|> < <SYS>> < bos> [ gMASK]< sop>"),
        ("[THINK] [SYSTEM_PROMPT] [IMG_END] ◁/think▷", "[ THINK] [ SYSTEM_PROMPT] [ IMG_END] ◁ /think▷"),
        ("<img></box> <seed:bos> <BOS_TOKEN> ]~b]", "< img>< /box> < seed:bos> < BOS_TOKEN> ] ~b]"),
        ("a < b, <b>bold</b>, [sic] |x| <think> [thinking]", "a < b, <b>bold</b>, [sic] |x| <think> [thinking]"),
    ],
)
async def test_special_tokens_in_a_text_are_defused(serve: Serve, text: str, sent: str) -> None:
    server = serve(lambda call: reply())
    await chat_to(server)(ChatRequest((Message("user", text), Message("user", (text,)))))
    first, second = server.calls[0].body["messages"]
    assert (first["content"], second["content"][0]["text"]) == (sent, sent)


FAMILIES = {
    "ChatML, Qwen": "<|im_start|> <|im_end|> <|endoftext|> <|object_ref_start|> <|box_end|> <|fim_prefix|> <|repo_name|>",
    "Qwen-VL": "<|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <img> </img> <ref> </box> <quad>",
    "Llama 2": "<s> </s> [INST] [/INST] <<SYS>> <</SYS>> <unk>",
    "Llama 3": "<|begin_of_text|> <|start_header_id|> <|eot_id|> <|eom_id|> <|python_tag|> <|reserved_special_token_247|>",
    "Mistral": "[INST] [/INST] [THINK] [/THINK] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] "
    "[/TOOL_RESULTS] [IMG] [IMG_BREAK] [IMG_END] [PREFIX] [SUFFIX] [CALL_ID] [ARGS] [AUDIO] [BEGIN_AUDIO] </s>",
    "Gemma": "<bos> <eos> <start_of_turn> <end_of_turn> <start_of_image> <image_soft_token> <unused42> <|turn> <turn|>",
    "Phi": "<|system|> <|user|> <|assistant|> <|end|> <|im_sep|> <|image_1|> <|tool|>",
    "DeepSeek": "<｜begin▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜> <image_placeholder>",
    "GLM": "[gMASK] <sop> <eop> [sMASK] <|user|> <|observation|> <|begin_of_image|>",
    "Kimi": "<|im_user|> <|im_middle|> [BOS] [EOS] [EOT] <|tool_call_begin|> ◁think▷ ◁/think▷ <|media_pad|>",
    "Command": "<BOS_TOKEN> <EOS_TOKEN> <|START_OF_TURN_TOKEN|> <|USER_TOKEN|> <|END_RESPONSE|> <PAD_TOKEN> <CLS>",
    "Granite": "<|start_of_role|> <|end_of_role|> <|end_of_text|> <fim_middle> <reponame>",
    "InternVL, MiniCPM, LLaVA": "<IMG_CONTEXT> <image> </image> <slice> <image_id> <video>",
    "MiniMax, Seed, Nemotron, T5": "]~!b[ ]~b] [e~[ <seed:bos> </seed:think> <SPECIAL_12> <extra_id_0>",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_special_token_of_a_common_family_is_spelled_out(family: str) -> None:
    for token in FAMILIES[family].split():
        assert token not in defuse(f"a{token}b"), token


async def test_what_is_ours_stays_as_it_is(serve: Serve) -> None:
    server = serve(lambda call: reply())
    await chat_to(server)(ChatRequest((Message("system", "Mark it with <image>."), Message("user", "<image>"))))
    assert [m["content"] for m in server.calls[0].body["messages"]] == ["Mark it with <image>.", "< image>"]


async def test_a_redirect_to_another_origin_is_refused(serve: Serve) -> None:
    other = serve(lambda call: reply())
    server = serve(lambda call: Answer(b"", 307, headers={"Location": f"{other.url}/chat/completions"}))
    with pytest.raises(ServerError, match=r"sends on to another.*not followed"):
        await chat_to(server)(ASK)
    assert (len(server.calls), other.calls) == (1, [])


async def test_a_redirect_within_the_origin_is_followed(serve: Serve) -> None:
    server = serve(
        lambda call: reply() if call.path.endswith("/") else Answer(b"", 307, headers={"Location": call.path + "/"})
    )
    assert (await chat_to(server)(ASK)).text


async def test_a_key_that_no_header_can_carry(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-“quoted”")
    with pytest.raises(ConfigError) as caught:
        await chat_to(serve(lambda call: reply()), api_key_env="MY_KEY")(ASK)
    assert "sk-“quoted”" not in str(caught.value)


def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        chat_to(Server("http://127.0.0.1:9/v1"), api_key_env="MY_KEY")


@pytest.mark.parametrize(
    ("name", "value"), [("SSL_CERT_FILE", "/nonexistent/ca.pem"), ("HTTP_PROXY", "http://host:port")]
)
async def test_proxies_and_certificates_that_cannot_be_used_are_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="proxy or certificate settings"):
        await chat_to(serve(lambda call: reply()))(ASK)


async def test_settings_that_a_model_refuses_are_left_out(serve: Serve) -> None:
    def picky(call: Call) -> Answer:
        for name in ("max_tokens", "temperature"):
            if name in call.body:
                return error(400, f"Unsupported: {name}", param=name, code="unsupported_parameter")
        return reply()

    server = serve(picky)
    chat = chat_to(server)
    await chat(ASK)
    await chat(ASK)
    assert len(server.calls) == 4  # two lessons, then no more
    assert server.calls[-1].body["max_completion_tokens"] == 512


async def test_template_variables(serve: Serve) -> None:
    server = serve(lambda call: reply())
    await chat_to(server, template_args={"enable_thinking": False})(ASK)
    assert server.calls[0].body["chat_template_kwargs"] == {"enable_thinking": False}


async def test_a_prompt_that_is_no_unicode(serve: Serve) -> None:
    with pytest.raises(BackendError, match="surrogates"):
        await chat_to(serve(lambda call: reply()))(ChatRequest((Message("user", "\ud800"),)))


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("response_format", error(400, "This response_format type is unavailable now", param=None, code="invalid")),
        ("seed", error(400, 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', code=400)),
        (
            "seed",
            Answer(
                {
                    "object": "error",
                    "message": {
                        "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]
                    },
                    "param": None,
                },
                422,
            ),
        ),
        ("top_p", error(400, "`temperature` and `top_p` cannot both be specified for this model.", type="invalid")),
        ("temperature", error(422, "temperature is deprecated for this model")),
    ],
)
async def test_a_field_that_a_server_refuses_is_left_out_and_remembered(
    serve: Serve, field: str, refusal: Answer
) -> None:
    server = serve(lambda call: refusal if field in call.body else reply('{"a": 1}'))
    chat = chat_to(server)
    request = ChatRequest(ASK.messages, temperature=0.5, seed=3, schema={"type": "object"})
    for _ in range(2):
        assert (await chat(request)).text == '{"a": 1}'
    assert [field in call.body for call in server.calls] == [True, False, False]


async def test_a_refusal_that_names_no_field_of_ours_is_not_asked_again(serve: Serve) -> None:
    server = serve(lambda call: error(400, "the seed must be below 100"))
    with pytest.raises(ServerError, match="below 100"):
        await chat_to(server)(ChatRequest(ASK.messages, seed=300))
    assert len(server.calls) == 1


async def test_content_in_parts(serve: Serve) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "a red"},
        {"type": "text", "text": " fox"},
    ]
    got = await chat_to(serve(lambda call: reply(parts)))(ASK)
    assert (got.text, got.reasoning) == ("a red fox", "hm")


@pytest.mark.parametrize(
    ("finish", "text", "cut"),
    [
        ("stop", "fine", False),
        ("STOP", "fine", False),
        (None, "fine", False),
        (None, "<think>half", True),
        (None, "<think>so</think><answer>half", True),
        ("MAX_TOKENS", "half", True),
        ("content_filter", "half", True),
        ("abort", "half", True),
        ("error", "half", True),
    ],
)
async def test_any_finish_reason_but_stop_is_a_cut_reply(
    serve: Serve, finish: str | None, text: str, cut: bool
) -> None:
    assert (await chat_to(serve(lambda call: reply(text, finish_reason=finish)))(ASK)).truncated is cut


@pytest.mark.parametrize("tags", [("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")])
async def test_thinking_tags_of_other_families(serve: Serve, tags: tuple[str, str]) -> None:
    server = serve(lambda call: reply(f'{tags[0]}hm{tags[1]}{{"a": 1}}'))
    assert (await chat_to(server)(ASK)).text == '<think>hm</think>{"a": 1}'
    assert (await chat_to(server)(ChatRequest(ASK.messages, schema={"type": "object"}))).text == '{"a": 1}'
