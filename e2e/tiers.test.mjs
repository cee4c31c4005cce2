/** The tier picker: the real agent does a turn with a tool call behind each kind of wall. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { Lodge } from "./lib/lodge.mjs";

/** Tiers, and the longest that a turn with one tool call takes in each on a loaded machine without KVM, milliseconds. */
const TIERS = { process: 60_000, container: 120_000, microvm: 600_000 };

describe("the tier picker", () => {
  let lodge, browser, page;

  before(async () => {
    lodge = await Lodge.start();
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  it("offers every tier and profile, and says what mends what is missing", async () => {
    await page.at("new-session").first().click();
    await page.at("sandbox-picker").waitFor();
    for (const tier of Object.keys(TIERS)) {
      const card = page.at(`tier-card-${tier}`);
      const usable = !(await page.at(`tier-${tier}`).isDisabled());
      if (!usable) assert.match(await card.innerText(), /\S{10}/, `${tier} says why`);
    }
    for (const profile of ["minimal", "development", "strict"]) assert.equal(await page.at(`profile-${profile}`).count(), 1);
    await page.shot("tier-picker");
    assert.deepEqual(await page.violations(), []);
    await page.page.keyboard.press("Escape");
  });

  for (const [tier, within] of Object.entries(TIERS)) {
    it(`runs a tool in the ${tier} tier`, async () => {
      const workspace = `tier-${tier}`;
      await page.newSession(workspace, { tier, within });
      assert.equal(await page.at("sandbox-badge").getAttribute("data-tier"), tier);
      await page.ask("use bash: echo made in > made.txt && cat /proc/1/comm >> made.txt && cat made.txt", within);
      assert.equal(await page.at("tool-card").first().getAttribute("data-state"), "done");
      await page.shot(`tier-${tier}`);
      const made = readFileSync(join(lodge.workspace(workspace), "made.txt"), "utf8");
      // Process 1 of every tier is guest init.
      assert.match(made, /^made in\n(lodge-)?init\n$/);
    });
  }

  it("shows what the agent may do", async () => {
    await page.at("sandbox-badge").click();
    await page.at("dialog-sandbox").waitFor();
    await page.shot("what-may-it-do");
    assert.deepEqual(await page.violations(), []);
    await page.page.keyboard.press("Escape");
  });

  it("refuses what a workspace's policy forbids, by file and key", async () => {
    lodge.prepare("held", { ".lodge/sandbox.toml": 'version = 1\nprofile = "strict"\n' });
    await page.at("new-session").first().click();
    await page.at("workspace-input").fill("held");
    await page.chooseTier("process");
    await page.at("create-session").click();
    const note = page.page.locator("dialog .error-note");
    await note.waitFor();
    assert.match(await note.innerText(), /tier/);
    await page.shot("refused-by-policy");
    await page.page.keyboard.press("Escape");
  });
});
