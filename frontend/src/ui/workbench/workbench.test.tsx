import { act, cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../../app/context";
import type { CommandBody, ErrorBody, FileContent, GitStatus } from "../../protocol/generated";
import { LodgeError } from "../../protocol/wire";
import { fakeEnvironment } from "../../socket/testing";
import { Client } from "../../state/client";
import { NO_NETWORK } from "../../state/guard";
import { model, SESSION } from "../../state/testing";
import { fromField, languageOfPath, lineEndOf, toField } from "./files";
import { FilesPanel } from "./FilesPanel";
import { changesOf, GitPanel } from "./GitPanel";
import { NetworkPanel } from "./NetworkPanel";
import { exitText, TerminalPanel } from "./TerminalPanel";
import { neighbour } from "./Workbench";

afterEach(cleanup);
beforeEach(() => localStorage.clear());

const fail = (error: ErrorBody) => Promise.reject(new LodgeError(error));

function panel(children: React.ReactNode, answer: (body: CommandBody) => unknown) {
  const client = new Client(fakeEnvironment());
  const send = vi.spyOn(client, "send").mockImplementation((body) => Promise.resolve().then(() => answer(body)));
  render(<ClientContext value={client}>{children}</ClientContext>);
  return { client, send };
}

/** A workspace with one folder and one file whose text may change behind the page's back. */
function workspace(initial: Partial<FileContent> = {}) {
  let file: FileContent = { path: "src/a.ts", size: 4, version: "1", binary: false, text: "one\n", offset: 0, ...initial };
  const writes: CommandBody[] = [];
  const entry = (name: string, kind: string) => ({ name, kind, size: 4, modified: 1 });
  const answer = (body: CommandBody): unknown => {
    if (body.cmd === "file.list") {
      const entries = body.path === "" ? [entry("src", "directory"), entry("pipe", "special")] : [entry("a.ts", "file")];
      return { path: body.path, entries, truncated: false };
    }
    if (body.cmd === "file.read") return file;
    if (body.cmd !== "file.write") return {};
    writes.push(body);
    if (body.expected_version !== file.version) return fail({ code: "conflict", message: "changed" });
    file = { ...file, text: body.text, version: `${Number(file.version) + 1}` };
    return file;
  };
  const change = (text: string) => (file = { ...file, text, size: text.length, version: `${Number(file.version) + 1}` });
  return { answer, writes, change, current: () => file };
}

async function openFile() {
  fireEvent.click((await screen.findByText("src")).closest("button")!);
  fireEvent.click((await screen.findByText("a.ts")).closest("button")!);
}

describe("FilesPanel", () => {
  it("reads a folder when it is opened, and opens no pipe", async () => {
    const { answer } = workspace();
    const { send } = panel(<FilesPanel sessionId={SESSION} />, answer);
    await screen.findByText("src");
    expect(send.mock.calls.map(([body]) => body)).toEqual([{ cmd: "file.list", path: "" }]);
    expect(screen.getByText("pipe").closest("button")?.disabled).toBe(true);
    await openFile();
    expect((await screen.findByTestId("file-text")).textContent).toBe("one\n");
  });

  it("saves over the version that was read", async () => {
    const { answer, writes, current } = workspace();
    panel(<FilesPanel sessionId={SESSION} />, answer);
    await openFile();
    fireEvent.click(await screen.findByTestId("file-edit"));
    fireEvent.change(screen.getByTestId("file-editor"), { target: { value: "two\n" } });
    fireEvent.click(screen.getByTestId("file-save"));
    expect((await screen.findByTestId("file-text")).textContent).toBe("two\n");
    expect(writes).toEqual([{ cmd: "file.write", path: "src/a.ts", text: "two\n", expected_version: "1" }]);
    expect(current().text).toBe("two\n");
  });

  it("overwrites nothing that changed meanwhile unless it is told to", async () => {
    const { answer, change, current } = workspace();
    panel(<FilesPanel sessionId={SESSION} />, answer);
    await openFile();
    fireEvent.click(await screen.findByTestId("file-edit"));
    fireEvent.change(screen.getByTestId("file-editor"), { target: { value: "mine\n" } });
    change("theirs\n");
    fireEvent.click(screen.getByTestId("file-save"));
    await screen.findByTestId("file-conflict");
    expect(current().text).toBe("theirs\n");
    fireEvent.click(screen.getByTestId("conflict-mine"));
    await waitFor(() => expect(current().text).toBe("mine\n"));
  });

  it("does not take what the agent wrote during an edit for what was edited", async () => {
    const { answer, change, current } = workspace();
    const { client } = panel(<FilesPanel sessionId={SESSION} />, answer);
    const turn = (turnId: string | undefined) =>
      act(() => client.store.set((state) => ({ ...state, models: { [SESSION]: { ...model(), turnId } } })));
    await openFile();
    fireEvent.click(await screen.findByTestId("file-edit"));
    fireEvent.change(screen.getByTestId("file-editor"), { target: { value: "mine\n" } });
    turn("t");
    change("theirs\n");
    turn(undefined);
    await waitFor(() => expect(screen.getByText("7 B")).toBeDefined());
    fireEvent.click(screen.getByTestId("file-save"));
    await screen.findByTestId("file-conflict");
    expect(current().text).toBe("theirs\n");
  });

  it("takes theirs when that is wanted", async () => {
    const { answer, change, current } = workspace();
    panel(<FilesPanel sessionId={SESSION} />, answer);
    await openFile();
    fireEvent.click(await screen.findByTestId("file-edit"));
    change("theirs\n");
    fireEvent.click(screen.getByTestId("file-save"));
    fireEvent.click(await screen.findByTestId("conflict-theirs"));
    expect(screen.getByTestId<HTMLTextAreaElement>("file-editor").value).toBe("theirs\n");
    expect(current().text).toBe("theirs\n");
  });

  it("shows no binary content, and says when characters are hidden", async () => {
    const binary = workspace({ binary: true, text: undefined });
    panel(<FilesPanel sessionId={SESSION} />, binary.answer);
    await openFile();
    await screen.findByTestId("file-binary");
    expect(screen.queryByTestId("file-edit")).toBeNull();
    cleanup();
    const tricky = workspace({ text: "if (a\u202e) {}\n" });
    panel(<FilesPanel sessionId={SESSION} />, tricky.answer);
    await openFile();
    await screen.findByTestId("hidden-characters");
    expect(screen.getByTestId("file-text").textContent).toBe("if (a) {}\n");
  });
});

describe("line ends", () => {
  it("are what they were after editing", () => {
    expect(fromField(toField("a\r\nb\r\n"), lineEndOf("a\r\nb\r\n"))).toBe("a\r\nb\r\n");
    expect(fromField(toField("a\nb"), lineEndOf("a\nb"))).toBe("a\nb");
    expect([lineEndOf("a\r\nb\n"), lineEndOf("a\rb"), lineEndOf("")]).toEqual(["mixed", "mixed", "\n"]);
    expect([languageOfPath("a/b.rs"), languageOfPath("Makefile")]).toEqual(["rust", "text"]);
  });
});

describe("GitPanel", () => {
  const status: GitStatus = {
    repository: true, branch: "main", ahead: 0, behind: 1, truncated: false,
    entries: [
      { path: "both.ts", index: "M", worktree: "M" },
      { path: "new.ts", index: "?", worktree: "?" },
      { path: "gone.ts", index: ".", worktree: "D" },
    ],
  };

  it("sorts changes by what a commit would do with them", () => {
    expect(changesOf(status.entries).map(({ group, entry }) => `${group} ${entry.path}`)).toEqual([
      "staged both.ts", "changed both.ts", "untracked new.ts", "changed gone.ts",
    ]);
  });

  it("shows the staged difference of a staged change, and all of a file that Git does not know", async () => {
    const { send } = panel(<GitPanel sessionId={SESSION} />, (body) => {
      if (body.cmd === "git.status") return status;
      if (body.cmd === "git.diff") return { text: "--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\n", truncated: false };
      return { path: "new.ts", size: 3, version: "1", binary: false, text: "all\n", offset: 0 };
    });
    const entries = await screen.findAllByTestId("git-entry");
    fireEvent.click(entries[0]!);
    await screen.findByText("new");
    expect(send).toHaveBeenCalledWith({ cmd: "git.diff", path: "both.ts", staged: true }, SESSION);
    fireEvent.click(screen.getAllByTestId("git-entry").at(-1)!);
    await screen.findByText("all");
  });

  it("says when there is no repository", async () => {
    panel(<GitPanel sessionId={SESSION} />, () => ({ ...status, repository: false, entries: [] }));
    await screen.findByText(/not a Git repository/);
  });
});

describe("NetworkPanel", () => {
  const row = { host: "a.example", port: 443, decision: "denied" as const, rule: "", reason: "no rule", count: 3, sent: 0, received: 2_048, lastAt: 1 };

  it("shows counts and can leave out what was allowed", () => {
    render(<NetworkPanel log={{ allowed: 2, denied: 3, rows: [row, { ...row, decision: "allowed", host: "b.example" }] }} />);
    expect(screen.getByTestId("access-counts").textContent).toBe("2 allowed, 3 denied");
    expect(screen.getAllByTestId("access-row")).toHaveLength(2);
    expect(screen.getAllByTestId("access-row")[0]?.textContent).toContain("2.0 KiB received");
    fireEvent.click(screen.getByRole("checkbox"));
    expect(screen.getAllByTestId("access-row").map((found) => found.dataset.host)).toEqual(["a.example"]);
  });

  it("says when nothing was asked for", () => {
    render(<NetworkPanel log={NO_NETWORK} />);
    expect(screen.getByText(/No program of this session/)).toBeDefined();
  });
});

describe("TerminalPanel", () => {
  it("says why no terminal can be had", async () => {
    const client = new Client(fakeEnvironment());
    client.store.set((state) => ({ ...state, connection: "connected" }));
    vi.spyOn(client.terminals, "load").mockImplementation(() => fail({ code: "sandbox_unavailable", message: "bwrap is missing" }));
    render(<ClientContext value={client}><TerminalPanel sessionId={SESSION} /></ClientContext>);
    await screen.findByText("bwrap is missing");
  });

  it("names how a shell ended", () => {
    expect(exitText({ code: 0 })).toBe("The shell ended.");
    expect(exitText({ code: 3 })).toMatch(/status 3/);
    expect(exitText({ signal: 9 })).toMatch(/KILL/);
    expect(exitText({ reason: "The sandbox was ended." })).toMatch(/sandbox was ended/);
  });
});

describe("tabs", () => {
  it("are walked in a circle with the arrow keys", () => {
    expect(neighbour(["a", "b", "c"], "c", "ArrowRight")).toBe("a");
    expect(neighbour(["a", "b", "c"], "a", "ArrowLeft")).toBe("c");
    expect(neighbour(["a"], "a", "x")).toBeUndefined();
  });
});
