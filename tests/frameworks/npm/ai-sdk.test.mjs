// The AI SDK with its provider for whatever speaks OpenAI's dialect, and with the one for Ollama.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool as makeTool } from "ai";
import { createOllama } from "ollama-ai-provider-v2";

import { animal, base, formTokens, place, plain, question, stop, tokens, tool, tooLong, weather } from "./asked.mjs";

// `of(path)` is a model whose service is there, `limits` the form in which it takes its sampling parameters.
const providers = {
  "openai-compatible": {
    of: (path = "/v1") => {
      const provider = createOpenAICompatible({
        name: "llm8850",
        baseURL: base + path,
        includeUsage: true,
        supportsStructuredOutputs: true,
      });
      return provider("any");
    },
    limits: ({ max, stop, temperature }) => ({ maxOutputTokens: max, stopSequences: stop && [stop], temperature }),
  },
  ollama: {
    of: (path = "") => createOllama({ baseURL: `${base + path}/api` })("any"),
    // It passes the SDK's own parameters on where Ollama does not look.
    limits: ({ max, stop, temperature }) => {
      const options = { num_predict: max, ...(stop && { stop: [stop] }), ...(temperature && { temperature }) };
      return { providerOptions: { ollama: { options } } };
    },
  },
};
let expected;
before(async () => {
  expected = await plain();
});

for (const [name, { of, limits }] of Object.entries(providers)) {
  const asked = { model: of(), prompt: question, maxRetries: 0, ...limits({ max: tokens }) };

  test(`${name}: chat, stream and usage`, async () => {
    const usageIsRight = ({ inputTokens, outputTokens }) =>
      assert.deepEqual([inputTokens, outputTokens], [expected.promptTokens, tokens]);
    const reply = await generateText(asked);
    assert.equal(reply.text, expected.text);
    assert.equal(reply.finishReason, "length");
    usageIsRight(reply.usage);
    const streamed = streamText(asked);
    const pieces = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    assert.equal(pieces.join(""), expected.text);
    assert.ok(pieces.length > 3);
    usageIsRight(await streamed.usage);
  });

  test(`${name}: stop`, async () => {
    const reply = await generateText({ ...asked, ...limits({ max: tokens, stop }) });
    assert.equal(reply.text, expected.text.split(stop)[0]);
    assert.equal(reply.finishReason, "stop");
  });

  test(`${name}: structured output`, async () => {
    const output = Output.object({ schema: jsonSchema(animal) });
    const reply = await generateText({ ...asked, ...limits({ max: formTokens }), prompt: "Name an animal.", output });
    assert.ok(reply.output.name.length <= 12 && reply.output.legs <= 8);
  });

  test(`${name}: a call and its result`, async () => {
    const execute = async ({ city }) => `The sun shines in ${city}.`;
    const { description } = tool.function;
    const reply = await generateText({
      ...asked,
      ...limits({ max: formTokens }),
      prompt: weather,
      tools: { weather: makeTool({ description, inputSchema: jsonSchema(place), execute }) },
      // The first step must call, the second one speaks.
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
      stopWhen: stepCountIs(2),
    });
    const [{ toolName, input, output }] = reply.steps[0].toolResults;
    assert.equal(toolName, "weather");
    assert.equal(output, await execute(input));
    assert.ok(reply.text);
  });

  test(`${name}: errors`, async () => {
    // The provider for Ollama expects OpenAI's form of errors, so the text is in the body alone.
    const told = (status, words) => (error) =>
      APICallError.isInstance(error) && error.statusCode === status && error.responseBody.includes(words);
    const hot = generateText({ ...asked, ...limits({ max: tokens, temperature: 9 }) });
    await assert.rejects(hot, told(400, "temperature"));
    await assert.rejects(generateText({ ...asked, prompt: tooLong }), told(400, "E-CONTEXT"));
    await assert.rejects(generateText({ ...asked, model: of("/nowhere") }), told(404, "/nowhere/"));
  });
}
