import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `LODGE_BACKEND` lets `npm run dev` talk to a running `lodge up` or to the mock server.
const backend = process.env.LODGE_BACKEND ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
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
