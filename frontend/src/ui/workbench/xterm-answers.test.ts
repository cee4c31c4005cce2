import { describe, expect, it } from "vitest";
import { isAnswer } from "./xterm-answers";

describe("isAnswer", () => {
  it.each([
    "\x1b[?1;2c", "\x1b[>0;276;0c", "\x1b[0n", "\x1b[12;40R", "\x1b[?12;40R", "\x1b[8;24;80t", "\x1b[?2026;2$y",
    "\x1bP1$r0m\x1b\\", "\x1b]10;rgb:00/00/00\x1b\\",
  ])("knows the answer %j", (text) => expect(isAnswer(text)).toBe(true));

  it.each(["h", "hello", "\r", "\x03", "\x1b", "\x1bb", "\x1b[A", "\x1bOA", "\x1b[1;5C", "\x1b[3~", "\x1b[200~text\x1b[201~", "\x1b[<0;3;4M", "\x1b[I"])(
    "takes %j for what somebody typed",
    (text) => expect(isAnswer(text)).toBe(false),
  );
});
