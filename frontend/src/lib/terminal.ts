/** Text of agents and programs, made safe and readable: no escape sequences, no controls, no bidirectional tricks. */

/* eslint-disable no-control-regex -- control characters are what this file is about */
const OSC_AND_STRINGS = /(?:\u001b[\]PX^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?/g;
const CSI = /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]?/g;
const OTHER_ESCAPES = /\u001b[ -/]*[0-~]?/g;
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
/* eslint-enable no-control-regex */

/** A carriage return starts the line anew, as progress bars do: only what was written last is kept. */
function overwrite(line: string): string {
  const trimmed = line.endsWith("\r") ? line.slice(0, -1) : line;
  return trimmed.slice(trimmed.lastIndexOf("\r") + 1);
}

export function cleanTerminal(text: string): string {
  const stripped = text
    .replace(OSC_AND_STRINGS, "")
    .replace(CSI, "")
    .replace(OTHER_ESCAPES, "")
    .replace(CONTROLS, "")
    .replace(BIDI, "");
  if (!stripped.includes("\r")) return stripped;
  return stripped.split("\n").map(overwrite).join("\n");
}
