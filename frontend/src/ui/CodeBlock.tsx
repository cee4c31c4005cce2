import type { Element } from "hast";
import type { ReactNode } from "react";
import { CopyButton } from "./CopyButton";

function textOf(node: Element | undefined): string {
  if (!node) return "";
  return node.children
    .map((child) => (child.type === "text" ? child.value : child.type === "element" ? textOf(child) : ""))
    .join("");
}

function languageOf(node: Element | undefined): string | undefined {
  const code = node?.children[0];
  if (code?.type !== "element") return undefined;
  const names = code.properties.className;
  const name = Array.isArray(names) ? names.find((candidate) => candidate.startsWith("language-")) : undefined;
  return name?.slice("language-".length);
}

/** A fenced block: its language, a copy button, and its own scrolling. */
export function CodeBlock({ node, children }: { node: Element | undefined; children: ReactNode }) {
  const language = languageOf(node);
  return (
    <div className="code-block">
      <div className="code-head">
        <span data-label={language ?? "text"} className="code-language" />
        <CopyButton text={() => textOf(node)} label="Copy code" />
      </div>
      <pre tabIndex={0}>{children}</pre>
    </div>
  );
}
