/**
 * xterm.js within a content security policy that allows no inline style.
 *
 * It writes its rules into `<style>` elements, which the policy refuses. Rules that a script makes through the object
 * model are allowed: so while a terminal opens, `<style>` gives way to an element whose text goes into a constructed
 * style sheet. (The `style` attributes of true colours are taken care of when the bundle is built: see vite.config.ts.)
 */

type CreateElement = (name: string) => HTMLElement;

function sheetElement(page: Document, create: CreateElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  const element = create("template");
  page.adoptedStyleSheets = [...page.adoptedStyleSheets, sheet];
  let rules = "";
  Object.defineProperty(element, "textContent", {
    get: () => rules,
    set: (text: string) => {
      rules = text;
      sheet.replaceSync(text);
    },
  });
  element.remove = () => {
    page.adoptedStyleSheets = page.adoptedStyleSheets.filter((other) => other !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/** Runs `open` while elements named `style` that `page` makes are backed by constructed style sheets. */
export function withStyleSheets(page: Document, open: () => void): void {
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- only one of its overloads is
  const original: CreateElement = Document.prototype.createElement.bind(page);
  const create: CreateElement = (name) => (name === "style" ? sheetElement(page, original) : original(name));
  Object.defineProperty(page, "createElement", { configurable: true, value: create });
  try {
    open();
  } finally {
    Reflect.deleteProperty(page, "createElement");
  }
}
