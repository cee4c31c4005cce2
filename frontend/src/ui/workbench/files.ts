/** What the panel of files decides without asking the server. */

/** Entries of a directory that are drawn at once. */
export const SHOWN_ENTRIES = 500;

export const joinPath = (folder: string, name: string): string => (folder === "" ? name : `${folder}/${name}`);

const LANGUAGES: Readonly<Record<string, string>> = {
  c: "c", cc: "c++", cpp: "c++", cs: "c#", css: "css", go: "go", h: "c", html: "html", java: "java", js: "javascript",
  json: "json", jsx: "javascript", kt: "kotlin", lua: "lua", md: "markdown", mjs: "javascript", php: "php", py: "python",
  rb: "ruby", rs: "rust", sh: "shell", sql: "sql", swift: "swift", toml: "toml", ts: "typescript", tsx: "typescript",
  xml: "xml", yaml: "yaml", yml: "yaml", zig: "zig",
};

/** The language of a file, by its name. */
export function languageOfPath(path: string): string {
  const extension = /\.([A-Za-z0-9]+)$/.exec(path)?.[1]?.toLowerCase();
  return (extension && LANGUAGES[extension]) ?? "text";
}

/** How lines end: a text field of a browser knows only `\n`, so the rest is put back when the text is saved. */
export type LineEnd = "\n" | "\r\n" | "mixed";

export function lineEndOf(text: string): LineEnd {
  const breaks = text.match(/\r\n|\r|\n/g) ?? [];
  if (breaks.every((found) => found === "\n")) return "\n";
  return breaks.every((found) => found === "\r\n") ? "\r\n" : "mixed";
}

/** What a text field shows of `text`. */
export const toField = (text: string): string => text.replace(/\r\n/g, "\n");

/** What a text field's content is as a file. */
export const fromField = (text: string, lineEnd: LineEnd): string =>
  lineEnd === "\r\n" ? text.replace(/\n/g, "\r\n") : text;

export function formatBytes(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 1_048_576) return `${(bytes / 1_024).toFixed(1)} KiB`;
  return `${(bytes / 1_048_576).toFixed(1)} MiB`;
}
