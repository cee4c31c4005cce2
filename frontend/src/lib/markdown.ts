/** Splits Markdown into blocks that can be rendered, and cached, one by one while the text still grows. */
import { lexer } from "marked";

export interface Blocks {
  readonly text: string;
  /** Source of each block, in order; joined they are the text again (blank lines go with the block before). */
  readonly blocks: readonly string[];
  /** Which blocks are link definitions. */
  readonly defines: readonly boolean[];
  /** The link definitions, which blocks other than their own may refer to. */
  readonly definitions: string;
}

export const NO_BLOCKS: Blocks = { text: "", blocks: [], defines: [], definitions: "" };

/** Blocks at the end that more text may still change: a list goes on, a paragraph becomes a heading. */
const UNSETTLED = 2;

function lex(text: string): { blocks: string[]; defines: boolean[] } {
  const blocks: string[] = [];
  const defines: boolean[] = [];
  for (const token of lexer(text, { gfm: true })) {
    const last = blocks.length - 1;
    if (token.type === "space" && last >= 0) {
      blocks[last] = (blocks[last] ?? "") + token.raw;
    } else {
      blocks.push(token.raw);
      defines.push(token.type === "def");
    }
  }
  return { blocks, defines };
}

/** Blocks of `text`. Where it continues `before`, only its unfinished end is read again. */
export function splitBlocks(text: string, before: Blocks = NO_BLOCKS): Blocks {
  if (text === before.text) return before;
  const settled = text.startsWith(before.text) ? Math.max(0, before.blocks.length - UNSETTLED) : 0;
  const offset = before.blocks.slice(0, settled).reduce((sum, block) => sum + block.length, 0);
  // The lexer normalises line ends and tabs in places; then lengths say nothing and the whole text is read.
  const keep = text.startsWith(before.blocks.slice(0, settled).join("")) ? settled : 0;
  const { blocks: read, defines: readDefines } = lex(keep === 0 ? text : text.slice(offset));
  const blocks = [...before.blocks.slice(0, keep), ...read];
  const defines = [...before.defines.slice(0, keep), ...readDefines];
  const definitions = blocks.filter((_, index) => defines[index]).map((block) => block.trim());
  return { text, blocks, defines, definitions: definitions.join("\n") };
}

/** What the renderer is given for a block: with the link definitions, where it may need them. */
export function blockSource(block: string, definitions: string): string {
  return definitions !== "" && block.includes("[") ? `${block}\n\n${definitions}` : block;
}
