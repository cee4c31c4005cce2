/** Line diffs: reading unified patches, and making one from two texts. */

export interface DiffLine {
  readonly kind: "add" | "remove" | "context" | "hunk";
  readonly text: string;
}

/** What changes in one file. */
export interface FileDiff {
  readonly path: string;
  readonly lines: readonly DiffLine[];
}

/** Every line of a file, as added or removed with it. */
export function wholeFile(content: string, kind: "add" | "remove"): readonly DiffLine[] {
  if (content === "") return [];
  return content.replace(/\n$/, "").split("\n").map((text) => ({ kind, text }));
}

/** Lines of a unified patch, without its file headers. */
export function parsePatch(patch: string): readonly DiffLine[] {
  const lines: DiffLine[] = [];
  let inHunk = false;
  for (const line of patch.replace(/\n$/, "").split("\n")) {
    if (line.startsWith("@@")) {
      inHunk = true;
      lines.push({ kind: "hunk", text: line });
    } else if (!inHunk && /^(diff |index |Index: |={3,}$|--- |\+\+\+ |new file|deleted file|similarity|rename )/.test(line)) {
      continue;
    } else if (line.startsWith("+")) lines.push({ kind: "add", text: line.slice(1) });
    else if (line.startsWith("-")) lines.push({ kind: "remove", text: line.slice(1) });
    else if (!line.startsWith("\\")) lines.push({ kind: "context", text: line.replace(/^ /, "") });
  }
  return lines;
}

const FILE_HEADER = /^--- (?:\S.*)\n\+\+\+ (\S.*)\n(?=@@ )/gm;

/** Parts a text that holds unified patches from the words before them. */
export function splitPatches(text: string): { readonly words: string; readonly files: readonly FileDiff[] } {
  const heads = [...text.matchAll(FILE_HEADER)];
  const files = heads.map((head, index): FileDiff => {
    const patch = text.slice(head.index, heads[index + 1]?.index);
    return { path: (head[1] ?? "").replace(/^b\//, ""), lines: parsePatch(patch) };
  });
  return { words: text.slice(0, heads[0]?.index).trim(), files };
}

/** Above this many cells the middle is shown as removed and added as a whole. */
const MAX_CELLS = 250_000;

function commonPrefix(a: readonly string[], b: readonly string[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

function middleDiff(a: readonly string[], b: readonly string[]): DiffLine[] {
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number) => lengths[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: DiffLine[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ kind: "context", text: a[i] ?? "" });
      i += 1;
      j += 1;
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ kind: "remove", text: a[i] ?? "" });
      i += 1;
    } else {
      lines.push({ kind: "add", text: b[j] ?? "" });
      j += 1;
    }
  }
  return lines;
}

/** The change from `before` to `after`, line by line. */
export function diffLines(before: string, after: string): readonly DiffLine[] {
  const a = before === "" ? [] : before.replace(/\n$/, "").split("\n");
  const b = after === "" ? [] : after.replace(/\n$/, "").split("\n");
  const head = commonPrefix(a, b);
  const tail = commonPrefix(a.slice(head).reverse(), b.slice(head).reverse());
  const midA = a.slice(head, a.length - tail);
  const midB = b.slice(head, b.length - tail);
  const context = (text: string): DiffLine => ({ kind: "context", text });
  const middle: DiffLine[] =
    (midA.length + 1) * (midB.length + 1) > MAX_CELLS
      ? [
          ...midA.map((text): DiffLine => ({ kind: "remove", text })),
          ...midB.map((text): DiffLine => ({ kind: "add", text })),
        ]
      : middleDiff(midA, midB);
  return [...a.slice(0, head).map(context), ...middle, ...a.slice(a.length - tail).map(context)];
}

export function countChanges(lines: readonly DiffLine[]): { readonly added: number; readonly removed: number } {
  return {
    added: lines.filter((line) => line.kind === "add").length,
    removed: lines.filter((line) => line.kind === "remove").length,
  };
}
