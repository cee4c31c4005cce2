import { describe, expect, it } from "vitest";
import { countChanges, diffLines, parsePatch } from "./diff";
import { blockSource, NO_BLOCKS, splitBlocks } from "./markdown";
import { cleanTerminal } from "./terminal";
import { toolView } from "./tools";
import { formatCost, formatDuration, formatTokens } from "./format";

describe("cleanTerminal", () => {
  it("drops colours, titles, links, controls and bidirectional tricks", () => {
    expect(cleanTerminal("\u001b[1;32mok\u001b[0m \u001b]0;title\u0007\u001b]8;;http://x\u001b\\link\u001b]8;;\u001b\\ \u202Eevil\u0008")).toBe("ok link evil");
    expect(cleanTerminal("a\u009b31mb\u0090dcs\u009cc\u001bPq\u001b\\d")).toBe("abcd");
  });

  it("keeps what a progress bar wrote last, and Windows line ends", () => {
    expect(cleanTerminal("10%\r50%\r100%\nnext\r\n")).toBe("100%\nnext\n");
  });

  it("takes an escape that is cut off", () => {
    expect(cleanTerminal("text\u001b[3")).toBe("text");
    expect(cleanTerminal("text\u001b]0;never ends")).toBe("text");
  });
});

describe("diff", () => {
  it("finds the lines that changed", () => {
    const lines = diffLines("a\nb\nc\n", "a\nx\nc\nd\n");
    expect(lines.map((line) => `${line.kind[0] ?? ""}${line.text}`)).toEqual(["ca", "rb", "ax", "cc", "ad"]);
    expect(countChanges(lines)).toEqual({ added: 2, removed: 1 });
  });

  it("gives back both texts", () => {
    const before = Array.from({ length: 60 }, (_, index) => `line ${(index * 7) % 13}`).join("\n");
    const after = Array.from({ length: 55 }, (_, index) => `line ${(index * 5) % 11}`).join("\n");
    const lines = diffLines(before, after);
    expect(lines.filter((line) => line.kind !== "add").map((line) => line.text).join("\n")).toBe(before);
    expect(lines.filter((line) => line.kind !== "remove").map((line) => line.text).join("\n")).toBe(after);
  });

  it("stays quick on texts with nothing in common", () => {
    const big = (prefix: string) => Array.from({ length: 5_000 }, (_, index) => `${prefix}${index}`).join("\n");
    expect(countChanges(diffLines(big("a"), big("b")))).toEqual({ added: 5_000, removed: 5_000 });
  });

  it("reads a unified patch without its headers, also where a removed line begins with dashes", () => {
    const lines = parsePatch("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n same\n--- old\n+new\n\\ No newline at end of file\n");
    expect(lines).toEqual([
      { kind: "hunk", text: "@@ -1,2 +1,2 @@" }, { kind: "context", text: "same" },
      { kind: "remove", text: "-- old" }, { kind: "add", text: "new" },
    ]);
  });
});

describe("splitBlocks", () => {
  const TEXT = "# Title\n\nA paragraph with [a link][one].\n\n- item\n- item\n\n  more\n\n```js\nlet a;\n\nlet b;\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\nSetext\n======\n\nend\n\n[one]: https://example.org\n";

  it("gives the same blocks however the text came in", () => {
    const whole = splitBlocks(TEXT).blocks;
    for (const step of [1, 3, 7, 20]) {
      let cache = NO_BLOCKS;
      for (let at = step; at < TEXT.length + step; at += step) cache = splitBlocks(TEXT.slice(0, at), cache);
      expect(cache.blocks).toEqual(whole);
    }
  });

  it("keeps finished blocks identical while the end grows", () => {
    const first = splitBlocks(TEXT.slice(0, 120));
    const second = splitBlocks(TEXT.slice(0, 130), first);
    expect(second.blocks[0]).toBe(first.blocks[0]);
  });

  it("gives blocks the link definitions that they may need", () => {
    const { definitions } = splitBlocks(TEXT);
    expect(blockSource("see [a link][one]", definitions)).toContain("[one]: https://example.org");
    expect(blockSource("plain", definitions)).toBe("plain");
  });

  it("starts anew when the text is another one", () => {
    expect(splitBlocks("other", splitBlocks(TEXT)).blocks).toEqual(["other"]);
  });
});

describe("toolView", () => {
  it("understands the arguments of several harnesses", () => {
    expect(toolView("bash", { command: "ls" })).toMatchObject({ kind: "bash", subject: "ls" });
    expect(toolView("shell", { command: ["bash", "-lc", "echo hi"] })).toMatchObject({ kind: "bash", subject: "echo hi" });
    expect(toolView("Read", { file_path: "/w/a.ts" })).toMatchObject({ kind: "read", subject: "/w/a.ts" });
    expect(toolView("Edit", { file_path: "a", old_string: "x", new_string: "y" }).edits).toEqual([{ before: "x", after: "y" }]);
    expect(toolView("edit", { path: "a", edits: [{ oldText: "1", newText: "2" }, { oldText: "3", newText: "" }] }).edits).toHaveLength(2);
    expect(toolView("strange", { what: "rust\nlang" })).toMatchObject({ kind: "other", label: "strange", subject: "rust" });
  });

  it("takes anything as arguments", () => {
    for (const input of [undefined, null, 3, "partial {", [], { command: 7 }]) expect(toolView("bash", input).kind).toBe("bash");
  });
});

describe("formats", () => {
  it("are short", () => {
    expect([formatTokens(999), formatTokens(1_500), formatTokens(45_000), formatTokens(2_000_000)]).toEqual(["999", "1.5k", "45k", "2.0M"]);
    expect([formatCost(0), formatCost(1_000), formatCost(1_230_000_000)]).toEqual(["$0", "< $0.01", "$1.23"]);
    expect([formatDuration(340), formatDuration(2_500), formatDuration(65_000)]).toEqual(["340 ms", "2.5 s", "1 min 5 s"]);
  });
});
