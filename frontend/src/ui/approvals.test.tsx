import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import type { Approval } from "../protocol/generated";
import { fakeEnvironment } from "../socket/testing";
import { announcementFor } from "../state/announce";
import { Client } from "../state/client";
import { event, model, SESSION } from "../state/testing";
import { Approvals, SessionApprovals, subjectText } from "./Approvals";

afterEach(cleanup);

const approval = (id: string, subject: unknown): Approval => ({
  id,
  scope: "always",
  harness: "pi",
  workspace: "/w/p",
  tool: "bash",
  subject,
  created_at: 1,
});

/** A server that remembers some approvals. */
function withApprovals(known: Approval[], view = <Approvals />) {
  const client = new Client(fakeEnvironment());
  const send = vi.spyOn(client, "send").mockImplementation((body) => {
    if (body.cmd !== "approvals.forget") return Promise.resolve({ approvals: [...known] });
    known = body.approval_id === undefined ? [] : known.filter((one) => one.id !== body.approval_id);
    return Promise.resolve({});
  });
  render(
    <ClientContext value={client}>
      {view}
    </ClientContext>,
  );
  return send;
}

it("an answer from memory takes the place of the call for somebody", () => {
  const resolved = { event: "agent.input_resolved", request_id: "r", answer: { answer: "permission", choice: "once" } } as const;
  const say = (remembered?: "session") => announcementFor(event(1, remembered ? { ...resolved, remembered } : resolved), model());
  expect(say("session")).toMatch(/as you decided before/);
  expect(say()).toBeUndefined();
});

describe("approvals of one session", () => {
  it("are that session's, and forgotten in it", async () => {
    const close = vi.fn();
    const view = <SessionApprovals sessionId={SESSION} onClose={close} />;
    const send = withApprovals([approval("a", { command: "make" }), approval("b", { path: "/w/p/x" })], view);
    const row = await screen.findByTestId("approval-a");
    expect(send).toHaveBeenCalledWith({ cmd: "approvals.list" }, SESSION);
    fireEvent.click(within(row).getByRole("button", { name: "Ask again" }));
    await vi.waitFor(() => expect(screen.queryByTestId("approval-a")).toBeNull());
    expect(send).toHaveBeenCalledWith({ cmd: "approvals.forget", approval_id: "a" }, SESSION);
    // With one left there is nothing to forget together.
    expect(screen.queryByTestId("forget-session-approvals")).toBeNull();
    fireEvent.click(screen.getByText("Done"));
    expect(close).toHaveBeenCalledOnce();
  });

  it("are forgotten together", async () => {
    const view = <SessionApprovals sessionId={SESSION} onClose={() => undefined} />;
    const send = withApprovals([approval("a", { command: "make" }), approval("b", { command: "ls" })], view);
    fireEvent.click(await screen.findByTestId("forget-session-approvals"));
    await screen.findByText(/^Nothing: the agent asks/);
    expect(send).toHaveBeenCalledWith({ cmd: "approvals.forget" }, SESSION);
  });
});

describe("remembered approvals", () => {
  it("are listed with all that they allow, and forgotten one by one", async () => {
    const send = withApprovals([approval("a", { command: "make", cwd: "/w/p/sub" }), approval("b", { command: "ls" })]);
    const row = await screen.findByTestId("approval-a");
    expect(row.textContent).toContain("make (in /w/p/sub)");
    expect(row.textContent).toContain("pi in /w/p");
    fireEvent.click(within(row).getByRole("button", { name: "Ask again" }));
    await vi.waitFor(() => expect(screen.queryByTestId("approval-a")).toBeNull());
    expect(screen.getByTestId("approval-b")).toBeDefined();
    expect(send).toHaveBeenCalledWith({ cmd: "approvals.forget", approval_id: "a" }, undefined);
  });

  it("are all forgotten only after a second question", async () => {
    const send = withApprovals([approval("a", { command: "make" }), approval("b", { command: "ls" })]);
    fireEvent.click(await screen.findByTestId("forget-approvals"));
    expect(send).not.toHaveBeenCalledWith({ cmd: "approvals.forget" }, undefined);
    fireEvent.click(screen.getByTestId("confirm"));
    await screen.findByText(/^None\./);
    expect(send).toHaveBeenCalledWith({ cmd: "approvals.forget" }, undefined);
  });

  it("hide nothing of their subject", () => {
    expect(subjectText({ path: "/w/p/a" })).toBe("/w/p/a");
    expect(subjectText({ command: "ls", sandbox: false })).toBe('{"command":"ls","sandbox":false}');
    expect(subjectText({ command: "ls", cwd: 1 })).toBe('{"command":"ls","cwd":1}');
    expect(subjectText({ command: "ls", path: "/" })).toBe('{"command":"ls","path":"/"}');
    expect(subjectText({})).toBe("{}");
  });
});
