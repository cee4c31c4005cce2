import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

// `LODGE_BACKEND` lets `npm run dev` talk to a running `lodge up` or to the mock server.
const backend = process.env.LODGE_BACKEND ?? "http://127.0.0.1:8080";

const STYLE_ATTRIBUTE = /(\w+)\.setAttribute\("style",(`[^`]*\$\{\w+\};`)\)/g;

/**
 * xterm.js writes colours that are not of its palette into `style` attributes, which the content security policy
 * refuses; the same through the object model is allowed. A version that does it elsewhere stops the build.
 */
function xtermWithoutStyleAttributes(): Plugin {
  return {
    name: "xterm-without-style-attributes",
    apply: "build",
    transform(code, id) {
      if (!id.includes("/@xterm/xterm/")) return undefined;
      if (!id.endsWith(".mjs")) return undefined;
      const found = [...code.matchAll(STYLE_ATTRIBUTE)].length;
      if (found !== 1 || code.split('setAttribute("style"').length !== 2) {
        throw new Error(`xterm.js sets ${found} style attributes in the known way, expected 1: look at its new version`);
      }
      return { code: code.replace(STYLE_ATTRIBUTE, "$1.style.cssText=$2"), map: null };
    },
  };
}

export default defineConfig({
  plugins: [react(), xtermWithoutStyleAttributes()],
  build: {
    target: "es2022",
    sourcemap: false,
    // The production policy forbids inline and data: scripts, so every asset is a file of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: { "/api": { target: backend, ws: true } },
  },
  test: {
    environment: "happy-dom",
    include: ["src/**/*.test.{ts,tsx}"],
    restoreMocks: true,
  },
});
