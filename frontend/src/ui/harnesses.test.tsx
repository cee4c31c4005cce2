import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import type { HarnessInfo, InputRequest, Part } from "../protocol/generated";
import { fakeEnvironment } from "../socket/testing";
import { Client } from "../state/client";
import { CAPABILITIES, info, model, SESSION } from "../state/testing";
import { sendState } from "./composer-logic";
import { Dialog } from "./Dialog";
import { HarnessPicker } from "./HarnessPicker";
import { NewSessionDialog } from "./NewSessionDialog";
import { PlanPanel } from "./PlanPanel";
import { RequestDialog } from "./RequestDialog";
import { ToolCard } from "./ToolCard";

afterEach(cleanup);

const missing = { code: "harness_not_installed" as const, message: "not installed" };

function harness(name: string, over: Partial<HarnessInfo> = {}): HarnessInfo {
  return { name, title: name.toUpperCase(), description: `About ${name}`, installed: true, version: "1.0.0", ...over };
}

function picker(harnesses: readonly HarnessInfo[]) {
  const onInstall = vi.fn();
  render(<HarnessPicker harnesses={harnesses} value="" onChange={() => undefined} onInstall={onInstall} />);
  return onInstall;
}

describe("HarnessPicker", () => {
  it("shows what can be used first, then by title", () => {
    picker([harness("zeta"), harness("beta", { installed: false, problem: missing }), harness("alpha", { installed: false, problem: missing }), harness("eta")]);
    expect(screen.getAllByRole("radio").map((radio) => radio.getAttribute("value"))).toEqual(["eta", "zeta", "alpha", "beta"]);
  });

  it("installs what is missing, and asks first where a vendor's terms are accepted by it", () => {
    const onInstall = picker([
      harness("free", { installed: false, problem: missing }),
      harness("terms", { installed: false, problem: missing, licence: "Their terms." }),
    ]);
    fireEvent.click(screen.getByTestId("install-free"));
    expect(onInstall).toHaveBeenLastCalledWith("free");
    fireEvent.click(screen.getByTestId("install-terms"));
    expect(onInstall).toHaveBeenCalledTimes(1);
    expect(within(screen.getByTestId("dialog-confirm")).getByText("Their terms.")).toBeDefined();
    fireEvent.click(screen.getByTestId("confirm"));
    expect(onInstall).toHaveBeenLastCalledWith("terms");
  });

  it("shows how far an installation is, and begins no second one", () => {
    const installing = { step: "fetching FREE 1.0.0", done: 3, total: 9 };
    picker([harness("free", { installed: false, installing, problem: missing }), harness("other", { installed: false, problem: missing })]);
    expect(screen.getByTestId("harness-progress").textContent).toContain("Fetching FREE 1.0.0, 3 of 9");
    expect(screen.getByRole("progressbar").getAttribute("value")).toBe("3");
    expect(screen.getByTestId<HTMLButtonElement>("install-other").disabled).toBe(true);
  });

  it("says why an installation failed", () => {
    picker([harness("free", { installed: false, problem: { code: "unavailable", message: "npm is needed" } })]);
    expect(screen.getByText("npm is needed")).toBeDefined();
    expect(screen.getByTestId("install-free")).toBeDefined();
  });
});

describe("the models of a new session", () => {
  it("are those that the chosen harness can be used with", async () => {
    const listed = (id: string) => ({ id, name: id, provider: "p", reasoning: false });
    const answers: Record<string, unknown> = {
      "harness.list": { harnesses: [harness("one"), harness("two")] },
      "workspace.list": { workspaces: [{ path: "/w/p", name: "p", sessions: [] }] },
      "session.create": info(),
      get_models: { models: [listed("p/both"), listed("p/first")], unusable: { two: ["p/first"] } },
    };
    const client = new Client(fakeEnvironment());
    const send = vi.spyOn(client, "send").mockImplementation((body) => Promise.resolve(answers[body.cmd]));
    render(<ClientContext value={client}><NewSessionDialog onClose={() => undefined} /></ClientContext>);
    const select = await screen.findByTestId<HTMLSelectElement>("new-model");
    const offered = () => [...select.options].map((option) => option.value);
    expect(offered()).toEqual(["", "p/both", "p/first"]);
    fireEvent.change(select, { target: { value: "p/first" } });
    fireEvent.click(screen.getByDisplayValue("two"));
    expect(offered()).toEqual(["", "p/both"]);
    fireEvent.click(screen.getByTestId("create-session"));
    // The model of the harness before does not go along.
    await vi.waitFor(() => expect(send).toHaveBeenCalledWith({ cmd: "session.create", harness: "two", workspace: "/w/p" }));
  });
});

describe("Dialog", () => {
  it("stays when a question that it asks is dismissed", () => {
    const outer = vi.fn();
    const inner = vi.fn();
    render(
      <Dialog title="Outer" onClose={outer} testId="outer">
        <Dialog title="Inner" onClose={inner} testId="inner">
          text
        </Dialog>
      </Dialog>,
    );
    fireEvent(screen.getByTestId("inner"), new Event("cancel", { cancelable: true }));
    expect([inner.mock.calls.length, outer.mock.calls.length]).toEqual([1, 0]);
    fireEvent(screen.getByTestId("outer"), new Event("cancel", { cancelable: true }));
    expect(outer).toHaveBeenCalledTimes(1);
  });
});

describe("PlanPanel", () => {
  it("is open while there is something to do, and tells the state of every step", () => {
    const entries = [
      { content: "Look", status: "completed" as const },
      { content: "Change", status: "in_progress" as const },
      { content: "Test", status: "pending" as const },
    ];
    const view = render(<PlanPanel entries={entries} />);
    expect(screen.getAllByRole("listitem").map((item) => item.textContent)).toEqual(["Done: Look", "In progress: Change", "To do: Test"]);
    fireEvent.click(screen.getByRole("button"));
    expect(screen.queryByRole("listitem")).toBeNull();
    expect(view.container.textContent).toContain("1 of 3 done");
    expect(view.container.textContent).toContain("Change");
    cleanup();
    render(<PlanPanel entries={entries.map((entry) => ({ ...entry, status: "completed" as const }))} />);
    expect(screen.queryByRole("listitem")).toBeNull();
  });
});

describe("sendState", () => {
  it("tells that a prompt waits where the agent cannot be steered", () => {
    const at = (steer: boolean) => model({ session: info({ status: "working" }), capabilities: { ...CAPABILITIES, steer } });
    expect(sendState(at(false), "steer")).toMatchObject({ kind: "follow_up", waits: true });
    expect(sendState(at(true), "queue")).toMatchObject({ kind: "follow_up", waits: false });
  });
});

describe("ToolCard", () => {
  const card = (name: string, input: unknown, output: Part[]) =>
    render(<ToolCard name={name} input={input} result={{ messageId: "m", output, isError: false }} run={undefined} duration={undefined} streaming={false} turnRuns={false} />);

  it("shows every change of a patch under its file", () => {
    const { container } = card("apply_patch", {}, [
      { type: "diff", path: "a.txt", patch: "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-x\n+y\n" },
      { type: "diff", path: "b.txt", patch: "--- /dev/null\n+++ b/b.txt\n@@ -0,0 +1 @@\n+z\n" },
    ]);
    expect([...container.querySelectorAll(".diff-file")].map((file) => file.textContent)).toEqual(["a.txt", "b.txt"]);
    expect(container.querySelectorAll(".diff-add")).toHaveLength(2);
  });

  it("shows what a sub-agent did, and its report", () => {
    card("Task", { description: "look", prompt: "Look around." }, [
      { type: "text", text: "All is well." },
      { type: "x-claude-subagent", truncated: false, entries: [
        { type: "tool_call", id: "1", name: "Bash", input: { command: "ls" } },
        { type: "tool_result", id: "1", output: "file.txt", is_error: false },
        { type: "text", role: "assistant", text: "Done looking." },
      ] },
    ]);
    expect(screen.getByText("Look around.")).toBeDefined();
    expect(screen.getByTestId("tool-output").textContent).toBe("All is well.");
    expect(screen.getByTestId("subagent").textContent).toMatch(/Run ls.*file\.txt.*Done looking\./s);
  });
});

describe("RequestDialog", () => {
  const dialog = (request: Partial<InputRequest>, more = 0) =>
    render(
      <ClientContext value={new Client(fakeEnvironment())}>
        <RequestDialog request={{ id: "r", title: "Allow?", ...request } as InputRequest} more={more} sessionId={SESSION} onLater={() => undefined} />
      </ClientContext>,
    );

  it("shows a change that is told in the words of the question as a change, and nothing twice", () => {
    const { container } = dialog({
      kind: "permission", tool: "write", arguments: { title: "/w/p.txt", locations: ["/w/p.txt"] }, choices: ["once", "deny"],
      message: "/w/p.txt\n--- /w/p.txt\n+++ /w/p.txt\n@@ -0,0 +1 @@\n+data\n",
    });
    expect(container.querySelectorAll(".diff-add")).toHaveLength(1);
    expect(container.textContent.split("/w/p.txt")).toHaveLength(2);
  });

  it("shows a proposed plan as text to read", () => {
    const { container } = dialog({ kind: "permission", tool: "ExitPlanMode", arguments: { plan: "## Steps\n\n1. one" }, choices: ["once", "deny"], message: "## Steps\n\n1. one" });
    expect(container.querySelectorAll("h2")[1]?.textContent).toBe("Steps");
  });

  it("offers every choice, and says what else waits", () => {
    dialog({ kind: "permission", tool: "shell", arguments: { command: "ls" }, choices: ["once", "session", "always", "deny", "deny_and_stop"] }, 2);
    for (const choice of ["once", "session", "always", "deny", "deny_and_stop"]) expect(screen.getByTestId(`permission-${choice}`)).toBeDefined();
    expect(screen.getByTestId("more-questions").textContent).toBe("2 more questions follow");
  });
});
