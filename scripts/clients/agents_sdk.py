"""OpenAI's Agents SDK against a server of redraft: agents on the Responses API, with the tool for pictures and without.

python agents_sdk.py http://127.0.0.1:8765 MODEL
"""

from __future__ import annotations

import asyncio
import base64
import sys

from agents import Agent, ImageGenerationTool, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI  # noqa: TID251 - a client under test


def require(holds: object, what: str) -> None:
    if not holds:
        raise SystemExit(f"agents_sdk: {what}")
    print(f"agents_sdk: {what}: works")


async def main(url: str, name: str) -> None:
    set_tracing_disabled(True)  # it would be sent to OpenAI
    model = OpenAIResponsesModel(model=name, openai_client=AsyncOpenAI(base_url=f"{url}/v1", api_key="none"))
    alone = await Runner.run(Agent(name="painter", model=model), "a star")
    require("data:image/png;base64," in alone.final_output, "an agent without tools gets the picture in the text")

    tool = ImageGenerationTool(tool_config={"type": "image_generation", "output_format": "png"})
    painter = Agent(name="painter", model=model, tools=[tool])
    drawn = await Runner.run(painter, "a star")
    calls = [item.raw_item for item in drawn.new_items if item.type == "tool_call_item"]
    require(
        len(calls) == 1 and calls[0].type == "image_generation_call", "an agent with the tool for pictures has one call"
    )
    require(base64.b64decode(calls[0].result).startswith(b"\x89PNG"), "its result is a PNG")

    edited = await Runner.run(painter, "make the star blue", previous_response_id=drawn.last_response_id)
    require(
        any(item.type == "tool_call_item" for item in edited.new_items), "a run that continues another has a picture"
    )
    again = await Runner.run(painter, [*drawn.to_input_list(), {"role": "user", "content": "make the star green"}])
    require(
        any(item.type == "tool_call_item" for item in again.new_items), "a run on an earlier run's items has a picture"
    )

    streamed = Runner.run_streamed(painter, "a heart and a star")
    kinds = [event.data.type async for event in streamed.stream_events() if event.type == "raw_response_event"]
    require("response.image_generation_call.completed" in kinds, "a streamed run tells of its picture")
    require(kinds[-1] == "response.completed", "and is completed")


asyncio.run(main(*sys.argv[1:3]))
