// Screenshots of every screen and an axe run on each, against the mock server.
// Usage: node dev/shots.mjs [light|dark|narrow ...]   (the mock server must run; pictures go to dev/shots/)
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { withBrowser } from "./browser.mjs";
import { panels } from "./shots-panels.mjs";

const BASE = process.env.MOCK ?? "http://127.0.0.1:8090";
const axeSource = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VARIANTS = {
  light: { viewport: { width: 1280, height: 820 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 820 }, colorScheme: "dark" },
  narrow: { viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
  "narrow-dark": { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, isMobile: true },
};

const wanted = process.argv.slice(2).filter((name) => name in VARIANTS);
let violations = 0;

async function check(page, name) {
  await page.screenshot({ path: new URL(`./shots/${name}.png`, import.meta.url).pathname });
  await page.evaluate(axeSource);
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const violation of result.violations) {
    violations += 1;
    console.log(`${name}: ${violation.id} (${violation.impact}) ${violation.help}`);
    for (const node of violation.nodes.slice(0, 3)) console.log(`   ${node.html.slice(0, 160)} | ${node.any[0]?.message ?? node.all[0]?.message ?? ""}`);
  }
}

async function openSession(page, title) {
  const narrow = (page.viewportSize()?.width ?? 0) < 800;
  if (narrow) await page.getByRole("button", { name: "Sessions" }).click();
  await page.getByTestId("session-item").filter({ hasText: title }).first().click();
  await page.getByTestId("composer").waitFor();
  await page.getByTestId("transcript").waitFor();
}

async function send(page, text) {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

async function newSession(page) {
  const narrow = (page.viewportSize()?.width ?? 0) < 800;
  if (narrow) await page.getByRole("button", { name: "Sessions" }).click();
  await page.getByTestId("new-session").click();
  await page.getByTestId("harness-pi").waitFor();
}

async function question(page, name, kind, shot) {
  await send(page, `ask ${kind}`);
  await page.locator("dialog[open]").waitFor();
  await page.waitForTimeout(250);
  await check(page, `${name}-${shot}`);
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  await page.locator("[data-testid=turn-status][data-status=idle]").waitFor();
}

async function screens(page, name) {
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  await page.goto(`${BASE}/login#token=expired`);
  await page.getByTestId("login-error").waitFor();
  await check(page, `${name}-login`);
  await page.goto(`${BASE}/`);
  await page.getByTestId("login-ok").waitFor();
  await page.getByTestId("session-item").first().waitFor({ state: "attached" });
  await check(page, `${name}-home`);
  await openSession(page, "Trailing commas");
  await page.waitForTimeout(300);
  await check(page, `${name}-session-end`);
  await page.getByTestId("transcript").evaluate((element) => element.scrollTo(0, 0));
  await page.waitForTimeout(300);
  await check(page, `${name}-session-top`);
  await newSession(page);
  await page.waitForTimeout(250);
  await check(page, `${name}-new-session`);
  await page.getByTestId("workspace-input").fill("parser-rewrite");
  await page.getByTestId("create-session").click();
  await page.getByText("What should it do?").waitFor();
  await check(page, `${name}-empty`);
  await send(page, "work 150");
  await page.waitForTimeout(1400);
  await check(page, `${name}-thinking`);
  await page.waitForTimeout(2500);
  await send(page, "also look at quoted fields");
  await page.getByTestId("choose-queue").click();
  await send(page, "then update the documentation");
  await send(page, "uncertain: and push it");
  await page.getByTestId("queue-entry").nth(1).waitFor();
  await check(page, `${name}-busy`);
  await page.getByTestId("stop").click();
  await page.waitForTimeout(900);
  for (let queued = 0; queued < 3; queued += 1) await page.getByTestId("stop").click({ timeout: 1500 }).catch(() => undefined);
  await page.locator("[data-testid=turn-status][data-status=idle]").waitFor();
  await question(page, name, "permission", "permission");
  await question(page, name, "network", "network-request");
  await question(page, name, "permission edit", "permission-edit");
  await question(page, name, "select", "select");
  await question(page, name, "editor", "editor");
  await question(page, name, "confirm", "confirm");
  await send(page, "err 401");
  await page.locator(".error-note").waitFor();
  await check(page, `${name}-error`);
  await openSession(page, "Documentation for");
  await panels(page, (shot) => check(page, `${name}-${shot}`));
  await openSession(page, "very long");
  await page.waitForTimeout(400);
  await check(page, `${name}-long`);
  await page.goto(`${BASE}/#/settings`);
  await page.getByTestId("provider-local").waitFor();
  await check(page, `${name}-settings`);
  await page.getByTestId("add-provider").click();
  await page.waitForTimeout(250);
  await check(page, `${name}-add-provider`);
  await page.goto(`${BASE}/#/usage`);
  await page.keyboard.press("Escape");
  await page.getByTestId("day-chart").waitFor();
  await check(page, `${name}-usage`);
  await page.goto(`${BASE}/#/usage/all`);
  await page.getByTestId("usage-user").waitFor();
  await page.getByTestId("as-table").click();
  await check(page, `${name}-usage-all`);
  for (const section of ["budgets", "accounts", "requests", "audit", "keys"]) {
    await page.getByTestId(`section-${section}`).click();
    await page.locator(".usage-card li, .usage-card tbody tr").first().waitFor();
    await check(page, `${name}-admin-${section}`);
  }
  await page.getByTestId("add-key").click();
  await page.getByTestId("key-user").fill("kim");
  await page.waitForTimeout(250);
  await check(page, `${name}-new-key`);
  await page.getByTestId("key-save").click();
  await page.getByTestId("secret").waitFor();
  await page.waitForTimeout(250);
  await check(page, `${name}-secret`);
  for (const problem of problems.filter((text) => !text.includes("401"))) console.log(`${name}: console: ${problem}`);
}

await mkdir(new URL("./shots/", import.meta.url), { recursive: true });
for (const name of wanted.length > 0 ? wanted : Object.keys(VARIANTS)) {
  await withBrowser({ ...VARIANTS[name], bypassCSP: false }, async (context) => {
    const page = context.pages()[0] ?? (await context.newPage());
    page.setDefaultTimeout(8_000);
    try {
      await screens(page, name);
    } catch (error) {
      await page.screenshot({ path: new URL(`./shots/${name}-failed.png`, import.meta.url).pathname });
      console.log(`${name}: FAILED ${error.message.split("\n").slice(0, 6).join(" ")}`);
      violations += 1;
    }
  });
}
console.log(violations === 0 ? "no violations" : `${violations} problems`);
process.exitCode = violations === 0 ? 0 : 1;
