/** Markdown in blocks that are cached one by one, so that a growing answer costs only its end. No raw HTML, no
 * remote images: what an agent writes must not make the browser call anywhere. */
import { Children, memo, useRef, type ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import { blockSource, NO_BLOCKS, splitBlocks } from "../lib/markdown";
import { CodeBlock } from "./CodeBlock";

const PLUGINS = [remarkGfm];

/** A heading whose words are still to come is none yet. */
function heading(Level: "h1" | "h2" | "h3" | "h4" | "h5" | "h6") {
  return function Heading({ children }: { children?: ReactNode }) {
    return Children.count(children) === 0 ? null : <Level>{children}</Level>;
  };
}

const COMPONENTS: Components = {
  h1: heading("h1"),
  h2: heading("h2"),
  h3: heading("h3"),
  h4: heading("h4"),
  h5: heading("h5"),
  h6: heading("h6"),
  a: ({ href, children }) =>
    href ? (
      <a href={href} target="_blank" rel="noopener noreferrer">
        {children}
      </a>
    ) : (
      <span>{children}</span>
    ),
  img: ({ src, alt }) => {
    const label = alt === undefined || alt === "" ? "image" : alt;
    return typeof src === "string" && /^https?:/.test(src) ? (
      <a href={src} target="_blank" rel="noopener noreferrer">
        [{label}]
      </a>
    ) : (
      <span>[{label}]</span>
    );
  },
  pre: ({ node, children }) => <CodeBlock node={node}>{children}</CodeBlock>,
  table: ({ children }) => (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
  input: ({ checked, type }) => (
    <input type={type} checked={checked ?? false} disabled aria-label={checked ? "Done" : "Not done"} />
  ),
};

const Block = memo(function Block({ source }: { source: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
      {source}
    </ReactMarkdown>
  );
});

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  const cache = useRef(NO_BLOCKS);
  const split = splitBlocks(text, cache.current);
  cache.current = split;
  return (
    <div className="markdown">
      {split.blocks.map((block, index) =>
        block.trim() === "" ? null : <Block key={index} source={blockSource(block, split.definitions)} />,
      )}
    </div>
  );
});
