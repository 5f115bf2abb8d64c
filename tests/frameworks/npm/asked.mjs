// Where the service is, and what every client is asked.
export const base = process.env.LLM8850_BASE;

export const question = "Tell me about coyotes.";
export const tokens = 24;
// Room for a form or a call.
export const formTokens = 64;
// Of the answer's middle.
export const stop = "wildlife";
// More tokens than the demo model's context.
export const tooLong = "word ".repeat(3000);
export const weather = "How is the weather in Rome?";

export const animal = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, legs: { type: "integer", minimum: 0, maximum: 8 } },
  required: ["name", "legs"],
  additionalProperties: false,
};

export const place = {
  type: "object",
  properties: { city: { enum: ["Rome", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};

export const tool = {
  type: "function",
  function: { name: "weather", description: "Tells the weather of a city.", parameters: place },
};

// What plain HTTP gets: the text that every client is compared with.
export async function plain() {
  const body = { model: "any", messages: [{ role: "user", content: question }], max_tokens: tokens };
  const reply = await fetch(`${base}/v1/chat/completions`, { method: "POST", body: JSON.stringify(body) });
  const { choices, usage } = await reply.json();
  return { text: choices[0].message.content, promptTokens: usage.prompt_tokens };
}
