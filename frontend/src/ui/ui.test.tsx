import { cleanup, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import { loginToken, parseRoute } from "../app/route";
import { fakeEnvironment } from "../socket/testing";
import { Client } from "../state/client";
import type { SessionState } from "../protocol/generated";
import { CAPABILITIES, info, model, SESSION } from "../state/testing";
import { Composer } from "./Composer";
import { isSendKey, matchingCommands, sendState } from "./composer-logic";
import { Markdown } from "./Markdown";
import { RequestDialog } from "./RequestDialog";
import { ToolCard } from "./ToolCard";
import { Thinking } from "./Thinking";

afterEach(cleanup);
beforeEach(() => localStorage.clear());

function composer(over: Partial<SessionState> = {}) {
  const client = new Client(fakeEnvironment());
  const prompt = vi.spyOn(client, "prompt").mockImplementation(() => undefined);
  const view = render(
    <ClientContext value={client}>
      <Composer model={model(over)} sessionId={SESSION} />
    </ClientContext>,
  );
  const field = screen.getByTestId<HTMLTextAreaElement>("composer");
  return { client, prompt, field, ...view };
}

const type = (field: HTMLElement, value: string) => fireEvent.change(field, { target: { value } });

describe("Composer", () => {
  it("sends with Enter and empties itself", () => {
    const { prompt, field } = composer();
    type(field, "hello");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(prompt).toHaveBeenCalledWith(SESSION, "prompt", "hello", []);
    expect(field.value).toBe("");
  });

  it("does not send with Shift+Enter, while an input method composes, or when empty", () => {
    const { prompt, field } = composer();
    fireEvent.keyDown(field, { key: "Enter" });
    type(field, "日本");
    fireEvent.keyDown(field, { key: "Enter", shiftKey: true });
    fireEvent.keyDown(field, { key: "Enter", isComposing: true });
    fireEvent.keyDown(field, { key: "Enter", keyCode: 229 });
    expect(prompt).not.toHaveBeenCalled();
    expect(isSendKey({ key: "Enter", keyCode: 13, shiftKey: false, isComposing: false })).toBe(true);
  });

  it("keeps its draft over a reload, and forgets it when it is sent", () => {
    const first = composer();
    type(first.field, "half a thought");
    first.unmount();
    const { field } = composer();
    expect(field.value).toBe("half a thought");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(localStorage.getItem(`lodge.draft.${SESSION}`)).toBeNull();
  });

  it("steers or queues while the agent works, as chosen", () => {
    const { prompt, field } = composer({ session: info({ status: "working" }) });
    type(field, "one");
    fireEvent.keyDown(field, { key: "Enter" });
    fireEvent.click(screen.getByTestId("choose-queue"));
    type(field, "two");
    fireEvent.keyDown(field, { key: "Enter" });
    expect(prompt.mock.calls.map((call) => call[1])).toEqual(["steer", "follow_up"]);
    expect(screen.getByTestId("stop")).toBeDefined();
  });

  it("offers slash commands and completes them", () => {
    const { prompt, field } = composer({ commands: [{ name: "compact" }, { name: "review" }] });
    type(field, "/re");
    expect(screen.getAllByRole("option")).toHaveLength(1);
    fireEvent.keyDown(field, { key: "Enter" });
    expect(field.value).toBe("/review ");
    expect(prompt).not.toHaveBeenCalled();
  });
});

describe("sendState", () => {
  const at = (status: SessionState["session"]["status"], over: Partial<SessionState["capabilities"]> = {}) =>
    model({ session: info({ status }), capabilities: { ...CAPABILITIES, ...over } });

  it("follows status and capabilities, and says why nothing can be sent", () => {
    expect(sendState(at("idle"), "steer").kind).toBe("prompt");
    expect(sendState(at("stopped"), "steer").kind).toBe("prompt");
    expect(sendState(at("stopped", { resume: false }), "steer").reason).toMatch(/cannot be resumed/);
    expect(sendState(at("working", { steer: false }), "steer")).toMatchObject({ kind: "follow_up", choice: false });
    expect(sendState(at("aborting"), "steer").kind).toBe("follow_up");
    expect(sendState(at("working", { steer: false, queue: false, follow_up: false }), "steer").reason).toBeDefined();
    expect(sendState(at("stopping"), "steer").kind).toBeUndefined();
  });

  it("matches commands only while their name is typed", () => {
    expect(matchingCommands([{ name: "compact" }], "/")).toHaveLength(1);
    expect(matchingCommands([{ name: "compact" }], "/compact now")).toHaveLength(0);
    expect(matchingCommands([{ name: "compact" }], "a /c")).toHaveLength(0);
  });
});

describe("Markdown", () => {
  it("renders no HTML, loads no image and runs no script link", () => {
    const { container } = render(
      <Markdown text={'<img src=x onerror=alert(1)>\n\n<script>alert(1)</script>\n\n![cat](https://evil.example/c.png)\n\n[x](javascript:alert(1)) <b>b</b>\n'} />,
    );
    expect(container.querySelector("img, script, b")).toBeNull();
    expect([...container.querySelectorAll("a")].map((link) => link.getAttribute("href"))).toEqual(["https://evil.example/c.png"]);
  });

  it("opens links elsewhere, without a referrer", () => {
    render(<Markdown text="[docs](https://example.org)" />);
    const link = screen.getByRole("link");
    expect([link.getAttribute("target"), link.getAttribute("rel")]).toEqual(["_blank", "noopener noreferrer"]);
  });

  it("shows no empty heading while its words are still to come", () => {
    expect(render(<Markdown text={"one\n\n## "} />).container.querySelector("h2")).toBeNull();
    expect(render(<Markdown text="## Two" />).container.querySelector("h2")?.textContent).toBe("Two");
  });

  it("renders a growing text as it renders the whole", () => {
    const text = "# A\n\none [two][r]\n\n| a |\n| - |\n| 1 |\n\n```js\nx\n```\n\n- [x] done\n\n[r]: https://example.org\n";
    const whole = render(<Markdown text={text} />).container.innerHTML;
    const growing = render(<Markdown text="#" />);
    for (let at = 2; at <= text.length; at += 1) growing.rerender(<Markdown text={text.slice(0, at)} />);
    expect(growing.container.innerHTML).toBe(whole);
  });
});

describe("ToolCard", () => {
  const card = (over: Partial<Parameters<typeof ToolCard>[0]>) =>
    render(<ToolCard name="bash" input={{ command: "ls" }} result={undefined} run={undefined} duration={undefined} streaming={false} turnRuns={false} {...over} />);

  it("shows cleaned output and its state", () => {
    card({ result: { messageId: "m", output: [{ type: "text", text: "\u001b[31mred\u001b[0m" }], isError: true } });
    expect(screen.getByTestId("tool-output").textContent).toBe("red");
    expect(screen.getByTestId("tool-card").dataset.state).toBe("error");
    expect(screen.getByTestId("message-tool").dataset.messageId).toBe("m");
  });

  it("folds reading away until it is asked for", () => {
    card({ name: "read", input: { path: "a" }, result: { messageId: "m", output: [{ type: "text", text: "content" }], isError: false } });
    expect(screen.queryByTestId("tool-output")).toBeNull();
    fireEvent.click(screen.getByRole("button", { expanded: false }));
    expect(screen.getByTestId("tool-output").textContent).toBe("content");
  });

  it("has the same text whether its duration is known or not", () => {
    const result = { messageId: "m", output: [{ type: "text" as const, text: "x" }], isError: false };
    const without = card({ result }).container.textContent;
    cleanup();
    expect(card({ result, duration: 1_234 }).container.textContent).toBe(without);
  });
});

describe("Thinking", () => {
  it("is open while it is written and folds away when done", () => {
    const view = render(<Thinking text="hmm" redacted={false} live />);
    expect(screen.getByText("hmm")).toBeDefined();
    view.rerender(<Thinking text="hmm" redacted={false} live={false} />);
    expect(screen.queryByText("hmm")).toBeNull();
  });
});

describe("RequestDialog", () => {
  it("answers with the choice, and with a cancellation on Escape", () => {
    const client = new Client(fakeEnvironment());
    const attempt = vi.spyOn(client, "attempt").mockResolvedValue(undefined);
    render(
      <ClientContext value={client}>
        <RequestDialog
          request={{ id: "r", title: "Run?", kind: "permission", tool: "bash", arguments: { command: "ls" }, choices: ["once", "deny"] }}
          sessionId={SESSION}
          onLater={() => undefined}
        />
      </ClientContext>,
    );
    fireEvent.click(screen.getByTestId("permission-once"));
    expect(attempt).toHaveBeenCalledWith({ cmd: "input_response", request_id: "r", answer: { answer: "permission", choice: "once" } }, SESSION);
    fireEvent(screen.getByTestId("dialog-permission"), new Event("cancel", { cancelable: true }));
    expect(attempt).toHaveBeenLastCalledWith({ cmd: "input_response", request_id: "r", answer: { answer: "cancelled" } }, SESSION);
  });
});

describe("routes", () => {
  it("are read from the fragment, apart from login tokens", () => {
    expect(parseRoute(`#/s/${SESSION}`)).toEqual({ page: "session", id: SESSION });
    expect(parseRoute("#/settings")).toEqual({ page: "settings" });
    expect(parseRoute("")).toEqual({ page: "home" });
    expect(loginToken("/", "#token=abc%2D1")).toBe("abc-1");
    expect(loginToken("/login", "#abc")).toBe("abc");
    expect(loginToken("/", `#/s/${SESSION}`)).toBeUndefined();
    expect(loginToken("/", "")).toBeUndefined();
  });
});
