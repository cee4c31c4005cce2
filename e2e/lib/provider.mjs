/** A provider of models on loopback that speaks Chat Completions and states what each answer used. */
import { createServer } from "node:http";

/** Tokens that each answer is said to have used. */
export const USED = { prompt_tokens: 4_000, completion_tokens: 100, total_tokens: 4_100 };

const LIMITS = {
  "x-ratelimit-limit-requests": "500",
  "x-ratelimit-remaining-requests": "120",
  "x-ratelimit-limit-tokens": "200000",
  "x-ratelimit-remaining-tokens": "188000",
};

function chunk(delta, rest = {}) {
  const choices = delta === undefined ? [] : [{ index: 0, delta, finish_reason: null }];
  return `data: ${JSON.stringify({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m", choices, ...rest })}\n\n`;
}

async function bodyOf(request) {
  let text = "";
  for await (const piece of request) text += piece;
  return JSON.parse(text);
}

const textOf = (content) => (typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join(""));

export class Provider {
  /** The last words of each prompt, in their order. */
  prompts = [];
  /** Answers that the other side gave up. */
  abandoned = 0;
  #server;

  static async start() {
    const provider = new Provider();
    provider.#server = createServer((request, response) => void provider.#answer(request, response));
    await new Promise((done) => provider.#server.listen(0, "127.0.0.1", done));
    provider.url = `http://127.0.0.1:${provider.#server.address().port}/v1`;
    return provider;
  }

  async #answer(request, response) {
    if (!request.url.endsWith("/chat/completions")) {
      response.writeHead(200, { "content-type": "application/json", ...LIMITS });
      response.end(JSON.stringify({ object: "list", data: [{ id: "m", object: "model" }] }));
      return;
    }
    const body = await bodyOf(request);
    const prompt = textOf(body.messages.findLast((message) => message.role === "user")?.content);
    this.prompts.push(prompt);
    response.writeHead(200, { "content-type": "text/event-stream", ...LIMITS });
    response.write(chunk({ role: "assistant", content: "Hello from the provider." }));
    if (prompt.includes("go on for long")) {
      // Until nobody reads any more.
      const timer = setInterval(() => response.write(chunk({ content: " And on." })), 50);
      response.on("close", () => {
        clearInterval(timer);
        this.abandoned += 1;
      });
      return;
    }
    response.write(`data: ${JSON.stringify({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\n`);
    response.write(chunk(undefined, { usage: USED }));
    response.end("data: [DONE]\n\n");
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((done) => this.#server.close(done));
  }
}
