/** Answers of a terminal to questions of a program, as against what somebody types. */

/**
 * CSI with the last letters of answers (device attributes, positions, sizes, modes), or a DCS, OSC or APC string.
 * Keys, the mouse and the focus send none of them, but for F3 with a modifier, which looks like a position.
 */
// eslint-disable-next-line no-control-regex -- it is about control characters
const ANSWER = /^\x1b(?:\[[?>=]?[\d;]*(?:[cnRtx]|\$y)|[P\]_])/;

export function isAnswer(text: string): boolean {
  return ANSWER.test(text);
}
