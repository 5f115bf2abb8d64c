// The official package for Ollama.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Ollama } from "ollama";

import { animal, base, formTokens, plain, question, stop, tokens, tool, tooLong, weather } from "./asked.mjs";

const client = new Ollama({ host: base });
const asked = { model: "any", messages: [{ role: "user", content: question }], options: { num_predict: tokens } };
const form = { ...asked, options: { num_predict: formTokens } };
let expected;
before(async () => {
  expected = await plain();
});

function numbersAreRight(reply) {
  assert.deepEqual([reply.done, reply.done_reason], [true, "length"]);
  assert.deepEqual([reply.prompt_eval_count, reply.eval_count], [expected.promptTokens, tokens]);
}

test("chat, stream and usage", async () => {
  const reply = await client.chat(asked);
  assert.equal(reply.message.content, expected.text);
  numbersAreRight(reply);
  const pieces = [];
  for await (const piece of await client.chat({ ...asked, stream: true })) pieces.push(piece);
  assert.equal(pieces.map((piece) => piece.message.content).join(""), expected.text);
  assert.ok(pieces.length > 3);
  numbersAreRight(pieces.at(-1));
});

test("stop", async () => {
  const reply = await client.chat({ ...asked, options: { num_predict: tokens, stop: [stop] } });
  assert.equal(reply.message.content, expected.text.split(stop)[0]);
  assert.equal(reply.done_reason, "stop");
});

test("an answer under way can be ended", async () => {
  const stream = await client.chat({ ...asked, options: { num_predict: -1 }, stream: true });
  await assert.rejects(
    async () => {
      for await (const _ of stream) stream.abort();
    },
    { name: "AbortError" },
  );
});

test("structured output", async () => {
  const messages = [{ role: "user", content: "Name an animal." }];
  const reply = await client.chat({ ...form, messages, format: animal });
  const { name, legs } = JSON.parse(reply.message.content);
  assert.ok(name.length <= 12 && legs >= 0 && legs <= 8);
});

test("a call and its result", async () => {
  const messages = [{ role: "user", content: weather }];
  // A demand is beyond Ollama's own parameters; the package passes it on.
  const reply = await client.chat({ ...form, messages, tools: [tool], tool_choice: "required" });
  const { name, arguments: place } = reply.message.tool_calls[0].function;
  assert.equal(name, "weather");
  assert.ok(["Rome", "Oslo"].includes(place.city));
  messages.push(reply.message, { role: "tool", tool_name: name, content: `The sun shines in ${place.city}.` });
  const answer = await client.chat({ ...asked, messages });
  assert.ok(answer.message.content);
});

test("errors", async () => {
  const told = (status, words) => (error) =>
    error.name === "ResponseError" && error.status_code === status && error.message.includes(words);
  await assert.rejects(client.chat({ ...asked, options: { temperature: 9 } }), told(400, "options.temperature"));
  const messages = [{ role: "user", content: tooLong }];
  await assert.rejects(client.chat({ ...asked, messages }), told(400, "E-CONTEXT"));
  await assert.rejects(client.chat({ ...asked, messages, stream: true }), told(400, "E-CONTEXT"));
  await assert.rejects(new Ollama({ host: `${base}/api` }).chat(asked), told(404, "/api/api/chat"));
});
