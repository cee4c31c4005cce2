/** Command lines as people want to read them. */

/** What `text` says as one word of a shell; `undefined` where it is several words or unfinished. */
function oneWord(text: string): string | undefined {
  const pieces = /'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])|([^\s'"\\]+)/y;
  let word = "";
  while (pieces.lastIndex < text.length) {
    const match = pieces.exec(text);
    if (!match) return undefined;
    const [, single, double, escaped, plain] = match;
    word += single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? plain ?? "";
  }
  return word;
}

/** `/bin/bash -lc 'echo hi'` is shown as the script that it runs. */
export function unwrapShell(command: string): string {
  const script = /^(?:\S*\/)?(?:ba|z|da)?sh\s+-l?c\s+([\s\S]+)$/.exec(command.trim())?.[1];
  const word = script === undefined ? undefined : oneWord(script);
  return word ?? command;
}

/** The same for a command that comes as a list of words. */
export function joinWords(words: readonly string[]): string {
  const [program, flag, script] = words;
  if (words.length === 3 && program && /(^|\/)(ba|z)?sh$/.test(program) && flag?.startsWith("-") && script) return script;
  return words.join(" ");
}
