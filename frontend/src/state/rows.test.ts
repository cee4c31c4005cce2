import { describe, expect, it } from "vitest";
import { buildRows, finishedRows, toolResults } from "./rows";
import { message, model, text } from "./testing";

const call = (id: string) => ({ type: "tool_call" as const, tool_call_id: id, name: "bash", input: {} });
const result = (id: string) => ({ type: "tool_result" as const, tool_call_id: id, name: "bash", output: [text("out")], is_error: false });

describe("rows", () => {
  it("put a tool's result beside its call", () => {
    const messages = [message("u", 0, "user", [text("go")]), message("a", 1, "assistant", [call("t")]), message("r", 2, "tool", [result("t")]), message("b", 3, "assistant", [text("done")])];
    const rows = finishedRows(messages);
    expect(rows.map((row) => row.key)).toEqual(["u", "a", "b"]);
    expect(rows.map((row) => row.kind === "message" && row.continues)).toEqual([false, false, true]);
    expect(toolResults(messages).get("t")?.messageId).toBe("r");
  });

  it("show a result whose call is not loaded", () => {
    expect(finishedRows([message("r", 2, "tool", [result("t")])]).map((row) => row.key)).toEqual(["r"]);
  });

  it("end with the error of the last turn and what is on its way", () => {
    const at = model({ last_error: { code: "provider_error", message: "no" } });
    const pending = { clientId: "c", sessionId: "s", kind: "prompt" as const, text: "hi" };
    expect(buildRows([], at, [pending]).map((row) => row.kind)).toEqual(["error", "pending"]);
  });

  it("say when a turn brought no answer, but not while it runs", () => {
    const user = finishedRows([message("u", 0, "user", [text("go")])]);
    expect(buildRows(user, model(), []).map((row) => row.kind)).toEqual(["message", "note"]);
    expect(buildRows(user, model({ turn_id: "t" }), []).map((row) => row.kind)).toEqual(["message"]);
  });

  it("give a streaming message the key it keeps when it is finished", () => {
    const streaming = message("m", 1, "assistant", [text("wor")]);
    const user = finishedRows([message("u", 0, "user", [text("go")])]);
    const rows = buildRows(user, model({ streaming: [streaming] }), []);
    expect(rows.at(-1)?.key).toBe("m");
  });
});
