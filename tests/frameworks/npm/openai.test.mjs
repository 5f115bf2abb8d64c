// The official package for OpenAI.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import OpenAI, { AzureOpenAI } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { base, formTokens, plain, question, stop, tokens, tool, tooLong, weather } from "./asked.mjs";

const settings = { apiKey: "unused", maxRetries: 0 };
const clients = {
  openai: new OpenAI({ baseURL: `${base}/v1`, ...settings }),
  azure: new AzureOpenAI({ endpoint: base, apiVersion: "2024-10-21", ...settings }),
};
const asked = { model: "any", messages: [{ role: "user", content: question }], max_tokens: tokens };
let expected;
before(async () => {
  expected = await plain();
});

for (const [name, client] of Object.entries(clients)) {
  test(`${name}: chat, stream and usage`, async () => {
    const usage = { prompt_tokens: expected.promptTokens, completion_tokens: tokens };
    const reply = await client.chat.completions.create(asked);
    assert.equal(reply.choices[0].message.content, expected.text);
    assert.equal(reply.choices[0].finish_reason, "length");
    assert.deepEqual({ ...reply.usage, ...usage }, reply.usage);
    const stream = client.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
    const pieces = [];
    stream.on("content", (piece) => pieces.push(piece));
    const streamed = await stream.finalChatCompletion();
    assert.equal(pieces.join(""), expected.text);
    assert.ok(pieces.length > 3);
    assert.deepEqual({ ...streamed.usage, ...usage }, streamed.usage);
  });

  test(`${name}: stop`, async () => {
    const reply = await client.chat.completions.create({ ...asked, stop });
    assert.equal(reply.choices[0].message.content, expected.text.split(stop)[0]);
    assert.equal(reply.choices[0].finish_reason, "stop");
  });
}

test("structured output", async () => {
  const animal = z.object({ name: z.string().max(12), legs: z.int().min(0).max(8) });
  const reply = await clients.openai.chat.completions.parse({
    ...asked,
    max_tokens: formTokens,
    messages: [{ role: "user", content: "Name an animal." }],
    response_format: zodResponseFormat(animal, "animal"),
  });
  animal.parse(reply.choices[0].message.parsed);
});

test("a call and its result", async () => {
  const cities = [];
  const execute = ({ city }) => {
    cities.push(city);
    return `The sun shines in ${city}.`;
  };
  const runner = clients.openai.chat.completions.runTools({
    ...asked,
    max_tokens: formTokens,
    messages: [{ role: "user", content: weather }],
    // After the first call the package asks again, without the demand.
    tool_choice: { type: "function", function: { name: "weather" } },
    tools: [{ type: "function", function: { ...tool.function, parse: JSON.parse, function: execute } }],
  });
  await runner.done();
  const call = runner.messages.find((message) => message.tool_calls).tool_calls[0];
  assert.deepEqual(JSON.parse(call.function.arguments), { city: cities[0] });
  const result = runner.messages.find((message) => message.role === "tool");
  assert.equal(result.tool_call_id, call.id);
  const reply = await clients.openai.chat.completions.create({ ...asked, messages: runner.messages });
  assert.ok(reply.choices[0].message.content);
});

test("errors", async () => {
  const ask = (client, options) => client.chat.completions.create({ ...asked, ...options });
  await assert.rejects(ask(clients.openai, { temperature: 9 }), (error) => {
    return error instanceof OpenAI.BadRequestError && error.param === "temperature" && error.code === "invalid_value";
  });
  await assert.rejects(ask(clients.openai, { messages: [{ role: "user", content: tooLong }] }), (error) => {
    return error instanceof OpenAI.BadRequestError && error.code === "context_length_exceeded";
  });
  const lost = new OpenAI({ baseURL: `${base}/nowhere`, ...settings });
  await assert.rejects(ask(lost), (error) => error instanceof OpenAI.NotFoundError && error.code === "unknown_url");
});
