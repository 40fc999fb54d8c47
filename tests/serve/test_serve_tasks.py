"""What front ends ask in the background, and the questions that need no drawing."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from agent.serve.openai.tasks import answer_by_rule, answer_task, read_task
from agent.testing import drawn_from, paint
from editors.backend import ImageTask
from redraft.chat import ChatReply, ChatRequest
from redraft.errors import ServerError
from tests.serve.conftest import Running

HISTORY = (
    '### Chat History:\n<chat_history>\nUSER: a big red star above two circles\nASSISTANT: here "tags"\n</chat_history>'
)
OPEN_WEBUI = {
    "title": f"""### Task:
Generate a concise, 3-5 word title with an emoji summarizing the chat history.
### Guidelines:
- The title should clearly represent the main theme or subject of the conversation.
### Output:
JSON format: {{ "title": "your concise title here" }}
{HISTORY}""",
    "tags": f"""### Task:
Generate 1-3 broad tags categorizing the main themes of the chat history, along with 1-3 more specific subtopic tags.
### Output:
JSON format: {{ "tags": ["tag1", "tag2", "tag3"] }}
{HISTORY}""",
    "follow_ups": f"""### Task:
Suggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next in this conversation.
### Output:
JSON format: {{ "follow_ups": ["Question 1?", "Question 2?", "Question 3?"] }}
{HISTORY}""",
    "queries": f"""### Task:
Analyze the chat history to determine the necessity of generating search queries, in the given language.
### Output:
Strictly return in JSON format: {{ "queries": ["query1", "query2"] }}
{HISTORY}""",
    "completion": """### Task:
You are an autocompletion system. Continue the text in `<text>` based on the **completion type** in `<type>`.
<type>General</type>
<text>draw a</text>
""",
}  # fmt: skip
"""The first words and the output sections of Open WebUI's default prompts (0.6)."""
TITLES = [
    "Provide a concise, 5-word-or-less title for the conversation, using its same language, with no punctuation.\n"
    "Conversation:\nUser: a big red star\nAI: done",
    "Please generate a concise, 5-word-or-less title for the conversation, using its same language.\n||>User:\na star",
    "你是一名擅长会话的助理，你需要将用户的会话总结为 10 个字以内的标题",
]
REQUESTS = [
    "create a title card for a chat app",
    'a poster with the title "HELLO"',
    "draw a conversation between two foxes",
    "Task: a red star",
    "write 'OPEN' above the door",
]


@pytest.mark.parametrize("kind", OPEN_WEBUI)
def test_open_webui_s_tasks_are_known_and_answered_in_their_json(kind: str) -> None:
    task = read_task(OPEN_WEBUI[kind])
    assert task is not None
    assert task.kind == kind
    answer = json.loads(answer_by_rule(task))
    assert list(answer) == ["text" if kind == "completion" else kind]
    if kind == "title":
        assert answer["title"] == "A big red star above"


@pytest.mark.parametrize("prompt", TITLES)
def test_other_front_ends_ask_for_titles(prompt: str) -> None:
    task = read_task(prompt)
    assert task is not None
    assert (task.kind, task.as_json) == ("title", False)
    assert answer_by_rule(task)


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_users_write_is_no_task(request_: str) -> None:
    assert read_task(request_) is None


class Writer:
    name = "writer"

    def __init__(self, reply: str | Exception) -> None:
        self.reply = reply

    async def __call__(self, request: ChatRequest) -> ChatReply:
        if isinstance(self.reply, Exception):
            raise self.reply
        return ChatReply(self.reply)

    async def aclose(self) -> None: ...


async def test_a_chat_model_writes_the_answer_and_rules_stand_in_for_it() -> None:
    task = read_task(OPEN_WEBUI["title"])
    assert task is not None
    assert await answer_task(task, Writer('{"title": "Star"}')) == '{"title": "Star"}'
    assert "A big red star above" in await answer_task(task, Writer(ServerError("gone")))


async def test_one_message_of_open_webui_starts_one_run(server: Running) -> None:
    async def say(text: str) -> str:
        body = {"model": "fake", "messages": [{"role": "user", "content": text}]}
        answer = await server.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    assert "data:image/png" in await say("a big red star above two circles")
    for kind in ("title", "tags", "follow_ups"):
        assert kind in json.loads(await say(OPEN_WEBUI[kind]))
    runs = [
        line for line in (await server.http.get("/metrics")).text.splitlines() if line.startswith("redraft_runs_total")
    ]
    assert [float(line.rsplit(" ", 1)[1]) for line in runs] == [1.0]


async def test_questions_that_need_no_drawing(server: Running) -> None:
    picture = await server.upload(paint(ImageTask("a circle", 1)))

    async def ask(path: str, **body: Any) -> Any:
        return await server.http.post(f"/v1/{path}", json=body)

    better = (await ask("enhance", request="a star")).json()
    assert better["prompt"] == "a star, finely"
    judged = (await ask("judge", request="a star", image=picture)).json()
    assert (judged["accepted"], len(judged["checks"])) == (False, 3)
    assert (await ask("judge", request="a star", image="0" * 64)).status_code == 404
    checked = (await ask("check", request="three red apples", rewrite="Two red apples")).json()
    assert checked["ok"] is False
    assert "numbers" in {finding["rule"] for finding in checked["findings"]}
    assert (await ask("check", request="three red apples", rewrite="x" * 20_000)).status_code == 400
    assert (await ask("check", request="three red apples")).status_code == 422
    paths = (await server.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/enhance", "/v1/judge", "/v1/check", "/v1/responses"} <= set(paths)
    assert "/v1/responses" in (await server.http.get("/docs")).text


@pytest.mark.parametrize("again", ["again", "Once more.", "redo", "please try again"])
async def test_again_is_no_word_to_draw_but_the_request_before_it(server: Running, again: str) -> None:
    async def say(*texts: str) -> str:
        said = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
        answer = await server.http.post("/v1/chat/completions", json={"model": "fake", "messages": said})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    def drawn(answer: str) -> str:
        with Image.open(io.BytesIO(base64.b64decode(answer.partition("base64,")[2].partition(")")[0]))) as picture:
            return drawn_from(picture)[0]

    assert "drawn again" in await say(again)
    first = await say("a star")
    assert drawn(await say("a star", first, again)).startswith("a star")
    assert drawn(await say("a star", first, again, first, "thanks", "You are welcome.", again)).startswith("a star")
    changed = await say("a star", first, "make the star blue", first, again)
    assert drawn(changed) == "make the star blue", "an edit is made again, of the picture before it"
