import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import { fakeEnvironment } from "../socket/testing";
import type { CommandBody, TrustedCode, WorkspaceCode } from "../protocol/generated";
import { Client } from "../state/client";
import { TrustedWorkspaces } from "./TrustedWorkspaces";
import { codeSentence, WorkspaceCodeLine } from "./WorkspaceCode";

afterEach(cleanup);

const code = (more: Partial<WorkspaceCode> = {}): WorkspaceCode => ({
  workspace: "/w",
  harness: "claude",
  files: [
    { path: ".mcp.json", size: 12, mode: 0o644, sha256: "00", named: false, text: "the \u001b[31mserver" },
    { path: "tools/run.sh", size: 4096, mode: 0o755, sha256: "01", named: true },
  ],
  left_out: [],
  digest: "d1",
  trusted: false,
  trustable: true,
  changed: [],
  ...more,
});

/** A server on which the workspace is what `now` says. */
function withCode(now: () => WorkspaceCode, refuse = false) {
  const client = new Client(fakeEnvironment());
  const send = vi.spyOn(client, "send").mockImplementation((body: CommandBody) => {
    if (body.cmd === "workspace.inspect") return Promise.resolve(now());
    if (body.cmd === "workspace.trust" && refuse) return Promise.reject(new Error("it has changed"));
    if (body.cmd === "workspace.trust") return Promise.resolve(code({ trusted: true }));
    return Promise.resolve({});
  });
  render(
    <ClientContext value={client}>
      <WorkspaceCodeLine workspace="/w" harness="claude" />
    </ClientContext>,
  );
  return send;
}

describe("code of a workspace", () => {
  it("is off, shown with all its files, and trusted by the digest that was shown", async () => {
    const send = withCode(() => code());
    const line = await screen.findByTestId("workspace-code");
    expect(line.textContent).toContain("brings code for claude: 2 files, off.");
    fireEvent.click(within(line).getByTestId("look-at-code"));
    const dialog = screen.getByTestId("dialog-workspace-code");
    // An escape sequence of a file is nothing that the page would show as such.
    expect(dialog.textContent).toContain("server");
    expect(dialog.textContent).not.toContain("\u001b");
    expect(dialog.textContent).toContain("4096 bytes, executable, a program that a setting names");
    expect(dialog.textContent).toContain("No text, or too long");
    expect(dialog.textContent).toContain("d1");
    fireEvent.click(screen.getByTestId("trust-code"));
    await vi.waitFor(() => expect(screen.queryByTestId("dialog-workspace-code")).toBeNull());
    expect(send).toHaveBeenCalledWith({ cmd: "workspace.trust", workspace: "/w", harness: "claude", digest: "d1" });
    expect(screen.getByTestId("workspace-code").textContent).toContain("on. You trust exactly these.");
  });

  it("is shown anew where it changed while it was looked at", async () => {
    let now = code();
    withCode(() => now, true);
    fireEvent.click(within(await screen.findByTestId("workspace-code")).getByTestId("look-at-code"));
    now = code({ digest: "d2", changed: [{ path: ".mcp.json", change: "changed" }] });
    fireEvent.click(screen.getByTestId("trust-code"));
    await screen.findByText("d2");
    const dialog = screen.getByTestId("dialog-workspace-code");
    expect(dialog.textContent).toContain("it has changed");
    expect(within(dialog).getByLabelText("Changed since you trusted it").textContent).toContain(".mcp.json");
  });

  it("is not mentioned where there is none", async () => {
    const send = withCode(() => {
      const { digest: _, ...none } = code({ files: [] });
      return none;
    });
    await vi.waitFor(() => expect(send).toHaveBeenCalled());
    await Promise.resolve();
    expect(screen.queryByTestId("workspace-code")).toBeNull();
  });

  it("that cannot be trusted says why", async () => {
    withCode(() => {
      const { digest: _, ...none } = code({ files: [], trustable: false, reason: "`.mcp.json` is a symbolic link" });
      return none;
    });
    fireEvent.click(within(await screen.findByTestId("workspace-code")).getByTestId("look-at-code"));
    expect(screen.getByTestId("dialog-workspace-code").textContent).toContain("`.mcp.json` is a symbolic link");
    expect(screen.queryByTestId("trust-code")).toBeNull();
  });

  it("has a sentence for each way it can stand", () => {
    expect(codeSentence(code({ changed: [{ path: "a", change: "added" }] }), "X")).toContain("off. It has changed since you trusted it.");
    expect(codeSentence(code({ trusted: true }), "X")).toContain("2 files, on.");
    expect(codeSentence(code({ trustable: false }), "X")).toContain("cannot be trusted");
  });
});

it("what is trusted is listed and revoked", async () => {
  const trusted: TrustedCode = { workspace: "/w", harness: "pi", digest: "d1", files: [".pi/a.ts"], file_count: 3, created_at: 1 };
  let known = [trusted];
  const client = new Client(fakeEnvironment());
  const send = vi.spyOn(client, "send").mockImplementation((body: CommandBody) => {
    if (body.cmd === "workspace.trusted") return Promise.resolve({ trusted: known });
    known = [];
    return Promise.resolve({});
  });
  render(
    <ClientContext value={client}>
      <TrustedWorkspaces />
    </ClientContext>,
  );
  const row = await screen.findByTestId("trusted-d1");
  expect(row.textContent).toContain("/w for pi");
  expect(row.textContent).toContain(".pi/a.ts and 2 more");
  fireEvent.click(within(row).getByRole("button", { name: "Do not trust" }));
  await screen.findByText(/^None\./);
  expect(send).toHaveBeenCalledWith({ cmd: "workspace.distrust", workspace: "/w", harness: "pi", digest: "d1" }, undefined);
});
