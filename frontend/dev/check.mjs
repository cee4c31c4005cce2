// Behaviour in a real browser, against the mock server: reconnects, reloads, long sessions, streaming cost.
// Usage: node dev/check.mjs
import { withBrowser } from "./browser.mjs";

const BASE = process.env.MOCK ?? "http://127.0.0.1:8090";
let failures = 0;

function expect(what, ok, detail = "") {
  if (!ok) failures += 1;
  console.log(`${ok ? "ok  " : "FAIL"} ${what}${detail === "" ? "" : `: ${detail}`}`);
}

const transcript = (page) =>
  page.getByTestId("transcript").evaluate((element) =>
    [...element.querySelectorAll("[data-message-id]")].map((message) => `${message.dataset.messageId} ${message.textContent}`),
  );

const idle = (page) => page.locator("[data-testid=turn-status][data-status=idle]").waitFor({ timeout: 60_000 });

async function send(page, text) {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

async function newSession(page, name) {
  await page.goto(BASE);
  await page.getByTestId("new-session").click();
  await page.getByTestId("harness-pi").click();
  await page.getByTestId("workspace-input").fill(name);
  await page.getByTestId("create-session").click();
  await page.getByText("What should it do?").waitFor();
}

async function reconnects(page) {
  await newSession(page, "cuts");
  await send(page, "work 30");
  await page.locator("[data-testid=turn-status][data-status=working]").waitFor();
  for (let cut = 0; cut < 20; cut += 1) {
    await page.waitForTimeout(60 + Math.floor(Math.random() * 260));
    await fetch(`${BASE}/mock/cut`);
  }
  await idle(page);
  await page.locator("[data-testid=connection][data-state=connected]").waitFor();
  const survived = await transcript(page);
  await page.reload();
  await page.getByTestId("message-assistant").first().waitFor();
  await page.waitForTimeout(300);
  const fresh = await transcript(page);
  expect("20 cuts leave the transcript of an uncut client", JSON.stringify(survived) === JSON.stringify(fresh), `${fresh.length} messages`);
}

async function reload(page) {
  await newSession(page, "reload");
  await send(page, "long 120 20");
  await page.getByTestId("message-assistant").waitFor();
  await page.getByTestId("composer").fill("a draft\nof two lines");
  await page.reload();
  await page.getByTestId("message-assistant").waitFor();
  expect("the draft survives a reload", (await page.getByTestId("composer").inputValue()) === "a draft\nof two lines");
  await page.getByTestId("composer").fill("");
  await idle(page);
  const seen = await transcript(page);
  await page.reload();
  await page.getByTestId("message-assistant").waitFor();
  expect("a reload in mid-turn ends with the same transcript", JSON.stringify(seen) === JSON.stringify(await transcript(page)));
}

async function longSession(page) {
  await page.goto(BASE);
  await page.getByTestId("session-item").filter({ hasText: "very long" }).click();
  await page.getByText("Question 750").waitFor();
  const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
  expect("a session of 3,000 messages has few nodes", nodes < 1_500, `${nodes} in the whole page`);
  const scroller = page.getByTestId("transcript");
  const gap = () => scroller.evaluate((element) => element.scrollHeight - element.scrollTop - element.clientHeight);
  expect("it opens at its end", (await gap()) < 4, `${await gap()} px`);
  for (let step = 0; step < 40; step += 1) {
    await scroller.evaluate((element) => element.scrollBy(0, -1_500));
    await page.waitForTimeout(40);
  }
  await page.waitForTimeout(500);
  const first = await page.getByTestId("message-user").first().textContent();
  const number = Number(/Question (\d+)/.exec(first ?? "")?.[1]);
  expect("older messages are loaded while scrolling up", number < 690, `at question ${number}`);
  const rows = () => page.locator("[data-message-id]").evaluateAll((all) => all.map((row) => [row.dataset.messageId, Math.round(row.getBoundingClientRect().top)]));
  const before = new Map(await rows());
  await send(page, "long 20 20").catch(() => undefined);
  await page.waitForTimeout(200);
  expect("sending goes to the end", (await gap()) < 120, `${await gap()} px`);
  await idle(page);
  expect("and stays there while the answer grows", (await gap()) < 4, `${before.size} rows before`);
  await scroller.evaluate((element) => element.scrollBy(0, -3_000));
  await page.waitForTimeout(300);
  const reading = new Map(await rows());
  await page.evaluate(() => document.querySelector("[data-testid=composer]").focus({ preventScroll: true }));
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByTestId("composer").waitFor();
  await send(other, "long 60 20");
  await page.locator("[data-testid=turn-status][data-status=working]").waitFor();
  await idle(page);
  await other.close();
  expect("rows are there to compare", reading.size > 5, `${reading.size}`);
  const moved = (await rows()).filter(([id, top]) => reading.has(id) && Math.abs(reading.get(id) - top) > 1);
  expect("what is being read does not move while another device streams", moved.length === 0, JSON.stringify(moved.slice(0, 3)));
}

async function streaming(page) {
  await newSession(page, "stream");
  await page.evaluate(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ entryTypes: ["longtask"] });
  });
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const started = Date.now();
  await send(page, "big 40000");
  await page.locator("[data-testid=turn-status][data-status=working]").waitFor();
  await idle(page);
  const tasks = await page.evaluate(() => window.longTasks);
  const { metrics: all } = await cdp.send("Performance.getMetrics");
  const metrics = Object.fromEntries(all.map((metric) => [metric.name, metric.value]));
  const longest = Math.round(Math.max(0, ...tasks));
  expect("40 KB in 3,300 deltas: no task above 100 ms", longest <= 100, `longest ${longest} ms, ${tasks.length} long tasks, script ${metrics.ScriptDuration.toFixed(2)} s, layout ${metrics.LayoutDuration.toFixed(2)} s, ${Date.now() - started} ms in all`);
}

async function keyboard(page) {
  await page.goto(BASE);
  await page.getByTestId("session-item").first().waitFor();
  await page.keyboard.press("j");
  await page.getByTestId("composer").waitFor();
  const first = page.url();
  await page.getByTestId("transcript").focus();
  await page.keyboard.press("j");
  await page.waitForURL((url) => url.href !== first);
  expect("j goes to the next session", page.url() !== first);
  await page.keyboard.press("Control+k");
  await page.getByTestId("dialog-new-session").waitFor();
  await page.getByTestId("harness-pi").waitFor();
  for (let presses = 0; presses < 25; presses += 1) await page.keyboard.press("Tab");
  const inside = await page.evaluate(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null);
  expect("focus stays inside the dialog", inside);
  await page.keyboard.press("Escape");
  await page.getByTestId("dialog-new-session").waitFor({ state: "detached" });
  await page.getByTestId("transcript").focus();
  await page.keyboard.press("?");
  await page.getByText("Next / previous session").waitFor();
  expect("? shows the keys", true);
}

async function runnerLost(page) {
  await newSession(page, "runner");
  await fetch(`${BASE}/mock/runner-lost`);
  await page.locator("[data-testid=connection][data-state=runner_lost]").waitFor();
  await send(page, "hello");
  await page.getByText("Will be sent when the connection is back").waitFor();
  await fetch(`${BASE}/mock/runner-ready`);
  await page.getByTestId("message-user").waitFor();
  await idle(page);
  expect("a prompt waits for the runner and is sent once", (await page.getByTestId("message-user").count()) === 1);
}

await withBrowser({ viewport: { width: 1280, height: 820 } }, async (context) => {
  const page = context.pages()[0] ?? (await context.newPage());
  page.setDefaultTimeout(10_000);
  page.on("pageerror", (error) => expect("no script error", false, String(error)));
  for (const check of [reconnects, reload, longSession, streaming, keyboard, runnerLost]) {
    await check(page).catch((error) => expect(check.name, false, error.message.split("\n").slice(0, 4).join(" ")));
  }
});
console.log(failures === 0 ? "all ok" : `${failures} failed`);
process.exitCode = failures === 0 ? 0 : 1;
