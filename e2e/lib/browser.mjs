/** The browser, and Lodge's page in it. */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { REPOSITORY, eventually } from "./lodge.mjs";

const SHOTS = join(REPOSITORY, "artifacts/e2e");
const AXE = join(REPOSITORY, "frontend/node_modules/axe-core/axe.min.js");
/** No answer of the page takes longer on a loaded machine, milliseconds. */
const PATIENCE = 60_000;

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** One picture of several shots, two in a row, each under its title. */
export async function sideBySide(browser, name, shots) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1120 } });
  const figures = shots.map(({ title, shot }) => {
    const image = readFileSync(join(SHOTS, `${shot}.png`)).toString("base64");
    return `<figure><figcaption>${title}</figcaption><img src="data:image/png;base64,${image}"></figure>`;
  });
  const style =
    "body{margin:0;padding:16px;display:grid;grid-template-columns:1fr 1fr;gap:16px;font:600 18px sans-serif;background:#ddd}" +
    "figure{margin:0}figcaption{padding:0 0 6px}img{width:100%;display:block}";
  await page.setContent(`<style>${style}</style>${figures.join("")}`);
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true });
  await page.close();
}

export class LodgePage {
  /** What the page complained about: a test that ends with any has failed. */
  complaints = [];

  /** A page with cookies and storage of its own. */
  static async open(browser) {
    const lodge = new LodgePage();
    lodge.context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    lodge.page = await lodge.context.newPage();
    lodge.page.setDefaultTimeout(PATIENCE);
    lodge.page.on("pageerror", (error) => lodge.complaints.push(`error: ${error.message}`));
    lodge.page.on("console", (message) => {
      if (message.text().includes("Content Security Policy")) lodge.complaints.push(message.text());
    });
    return lodge;
  }

  at(id) {
    return this.page.getByTestId(id);
  }

  async login(link) {
    await this.page.goto(link);
    await this.at("login-ok").waitFor();
    await this.connected();
  }

  async connected() {
    await this.page.locator('[data-testid=connection][data-state=connected]').waitFor({ state: "attached" });
  }

  async newSession(workspace, { harness = "pi", tier, profile, within = PATIENCE } = {}) {
    const before = this.page.url();
    await this.at("new-session").first().click();
    await this.at(`harness-${harness}`).click();
    await this.at("workspace-input").fill(workspace);
    if (profile) await this.choose(this.at(`profile-${profile}`));
    if (tier) await this.chooseTier(tier);
    await this.at("create-session").click();
    await this.page.waitForURL((url) => url.toString() !== before);
    await this.at("composer").waitFor();
    await this.idle(within);
  }

  /** Opens the session that works in a named workspace. */
  async openSession(workspace) {
    const id = await this.at("session-item").evaluateAll(
      (items, name) => items.find((item) => item.querySelector(".ellipsis").textContent === name)?.dataset.sessionId,
      workspace,
    );
    if (!id) throw new Error(`no session works in ${workspace}`);
    await this.page.locator(`[data-testid=session-item][data-session-id="${id}"]`).click();
    await this.page.waitForURL((url) => url.toString().includes(id));
    await this.at("composer").waitFor();
    await this.idle();
  }

  /** Resolves when a turn runs. */
  async working(within = PATIENCE) {
    await eventually("a turn runs", async () => (await this.state()).status === "working", within);
  }

  /** Picks one of several by its label, as a person does: the button itself is not seen. */
  async choose(radio) {
    await radio.locator("xpath=ancestor::label").click();
    await eventually("the choice is made", () => radio.isChecked());
  }

  /** Picks a tier; one that this machine lacks is a failure that says what mends it. */
  async chooseTier(tier) {
    const choice = this.at(`tier-${tier}`);
    await choice.waitFor();
    if (await choice.isDisabled()) {
      throw new Error(`the ${tier} tier cannot be used here: ${await this.at(`tier-problem-${tier}`).innerText()}`);
    }
    await this.choose(choice);
  }

  /** Opens a panel beside the conversation, unless it is open. */
  async panel(name) {
    const button = this.at(`panel-${name}`);
    if ((await button.getAttribute("aria-pressed")) !== "true") await button.click();
    await this.at("workbench").waitFor();
  }

  /** What the terminal that is in front shows. */
  screen() {
    return this.page.locator(".xterm-frame:not([hidden]) .xterm-rows").innerText();
  }

  /** Resolves when the terminal in front shows a line that matches. */
  async shows(pattern, within = PATIENCE) {
    await eventually(`the terminal shows ${pattern}`, async () => pattern.test((await this.screen()).replaceAll("\u00a0", " ")), within);
  }

  /** What axe finds wrong with the page as it is. */
  async violations() {
    await this.page.evaluate(readFileSync(AXE, "utf8"));
    const { violations } = await this.page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    return violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`);
  }

  /** Sends a prompt; resolves when its turn has begun, or is over already. */
  async send(text) {
    const users = async () => (await this.visible()).filter((row) => row.role === "user").map((row) => row.id);
    const before = new Set(await users());
    await this.at("composer").fill(text);
    await this.at("send").click();
    const isThere = async () => (await users()).some((id) => !before.has(id));
    await eventually("the prompt is in the transcript", isThere, PATIENCE);
  }

  async state() {
    const status = this.at("turn-status").first();
    return {
      status: await status.getAttribute("data-status"),
      persisting: (await status.getAttribute("data-persisting")) !== null,
    };
  }

  /** Resolves when no turn runs and all is stored. */
  async idle(within = PATIENCE) {
    await eventually(
      "the session is idle",
      async () => {
        const { status, persisting } = await this.state();
        return ["idle", "stopped", "failed"].includes(status) && !persisting;
      },
      within,
    );
  }

  async ask(text, within = PATIENCE) {
    await this.send(text);
    await this.idle(within);
  }

  /** Resolves when the answer streams: so many of its characters are there. */
  async streams(characters) {
    await eventually("the answer streams", async () => {
      const last = (await this.visible()).findLast((row) => row.role === "assistant");
      return last !== undefined && last.streaming && last.text.length >= characters;
    }, PATIENCE);
  }

  /** The rows that the page has drawn now. */
  visible() {
    return this.page.locator("[data-testid^=message-][data-message-id]").evaluateAll((elements) =>
      elements
        .filter((element) => element.matches("article"))
        .map((element) => ({
          id: element.dataset.messageId,
          role: element.dataset.testid.slice("message-".length),
          streaming: element.dataset.streaming !== undefined,
          text: element.innerText.replace(/\s+/g, " ").trim(),
        })),
    );
  }

  /** Every row of the transcript: the list draws only what is in view, so it is scrolled through. */
  async rows() {
    const scroller = this.at("transcript");
    const found = new Map();
    const collect = async () => {
      for (const row of await this.visible()) found.set(row.id, row);
    };
    await scroller.evaluate((element) => element.scrollTo({ top: 0, behavior: "instant" }));
    for (let ended = false; !ended; ) {
      await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      await collect();
      ended = await scroller.evaluate((element) => {
        const top = element.scrollTop;
        element.scrollBy({ top: element.clientHeight / 2, behavior: "instant" });
        return element.scrollTop <= top;
      });
    }
    return [...found.values()];
  }

  /** What a reader sees, without ids. */
  async transcript() {
    return (await this.rows()).map(({ role, text }) => ({ role, text }));
  }

  /** Puts notices away, which go by themselves after seconds. */
  async dismissNotices() {
    await eventually("no notice is left", async () => {
      const first = this.at("toast").first();
      if ((await first.count()) === 0) return true;
      await first.getByRole("button", { name: "Dismiss" }).click({ timeout: 1_000 });
      return false;
    });
  }

  /** How many errors the transcript shows. */
  problems() {
    return this.page.locator(".error-note").count();
  }

  async reload() {
    await this.page.reload();
    await this.at("composer").waitFor();
    await this.connected();
  }

  async shot(name) {
    mkdirSync(SHOTS, { recursive: true });
    // What fades in is to be seen as it stays.
    await this.page.evaluate(() => {
      const ending = document.getAnimations().filter((one) => one.effect?.getTiming().iterations !== Infinity);
      return Promise.all(ending.map((animation) => animation.finished.catch(() => undefined)));
    });
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`) });
  }

  async close() {
    await this.context.close();
  }
}
