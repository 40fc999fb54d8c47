// What the official Node client and the AI SDK do by default, against a running server: node node.mjs http://127.0.0.1:PORT
import assert from "node:assert/strict";
import OpenAI from "openai";
import { generateImage, generateText, streamText } from "ai";
import { createOpenAI } from "@ai-sdk/openai";

const base = `${process.argv[2]}/v1`;
const isPng = (text) => Buffer.from(text, "base64").subarray(1, 4).toString() === "PNG";
const works = (what) => console.log(`works: ${what}`);

const client = new OpenAI({ baseURL: base, apiKey: "none" });
const tools = [{ type: "image_generation", partial_images: 2 }];
const pictured = (response) => response.output.find((item) => item.type === "image_generation_call");

const image = await client.images.generate({ model: "gpt-image-1", prompt: "a star", size: "1024x1024" });
assert(isPng(image.data[0].b64_json));
works("openai, images.generate");

const first = await client.responses.create({ model: "gpt-5", input: "a star", tools });
assert(isPng(pictured(first).result));
works("openai, responses.create");

const second = await client.responses.create({ model: "gpt-5", input: "make it blue", previous_response_id: first.id, tools });
assert.equal(second.redraft.prompt, "make it blue");
works("openai, responses.create with previous_response_id");

const kinds = [];
for await (const event of await client.responses.create({ model: "gpt-5", input: "a square", tools, stream: true })) kinds.push(event.type);
assert(kinds.includes("response.image_generation_call.partial_image"));
assert.equal(kinds.at(-1), "response.completed");
works("openai, responses.create with stream and partial images");

const chat = await client.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content: "a star" }] });
assert.match(chat.choices[0].message.content, /^!\[.*\]\(data:image\/png/);
works("openai, chat.completions.create");

const openai = createOpenAI({ baseURL: base, apiKey: "none" });
const plain = await generateText({ model: openai("gpt-5"), prompt: "a star" });
assert.match(plain.text, /data:image\/png/);
works("AI SDK, generateText (the Responses API by default)");

const named = await generateText({
  model: openai("gpt-5"), prompt: "a star", tools: { image_generation: openai.tools.imageGeneration({ outputFormat: "png" }) },
});
assert(named.staticToolResults.length + named.toolResults.length > 0);
works("AI SDK, generateText with the tool imageGeneration");

let text = "";
for await (const piece of streamText({ model: openai("gpt-5"), prompt: "a star" }).textStream) text += piece;
assert.match(text, /data:image\/png/);
works("AI SDK, streamText");

const drawn = await generateImage({ model: openai.image("gpt-image-1"), prompt: "a star", size: "1024x1024" });
assert.equal(Buffer.from(drawn.image.uint8Array).subarray(1, 4).toString(), "PNG");
works("AI SDK, generateImage");
