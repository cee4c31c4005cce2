/** `kill -9` of every part in the middle of a turn: nothing is lost, nothing is doubled. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { Lodge } from "./lib/lodge.mjs";

const LONG = "long 200 20";

describe("a killed part", () => {
  let lodge, browser, page, straight;

  before(async () => {
    lodge = await Lodge.start();
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    await page.newSession("straight");
    await page.ask(LONG);
    straight = await page.transcript();
    assert.ok(straight[1].text.length > 200);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  for (const role of ["backend", "runner", "history"]) {
    it(`${role}: the turn ends with the transcript of one that was not disturbed`, async () => {
      await page.newSession(`killed-${role}`);
      await page.send(LONG);
      await page.streams(50);
      await lodge.kill(role);
      await page.connected();
      await page.shot(`killed-${role}`);
      await page.idle();
      assert.deepEqual(await page.transcript(), straight);
      await page.ask("say still here");
      assert.match((await page.transcript()).at(-1).text, /still here/);
    });
  }

  it("gateway: the turn ends, says why where it failed, and the session goes on", async () => {
    await page.newSession("killed-gateway");
    await page.send(LONG);
    await page.streams(50);
    await lodge.kill("gateway");
    await page.idle();
    await page.shot("killed-gateway");
    // pi tries again by itself: either that answer is whole, or the page says what went wrong.
    const rows = await page.transcript();
    assert.deepEqual(rows.slice(0, 1), straight.slice(0, 1));
    if (rows.at(-1).text !== straight[1].text) assert.ok((await page.problems()) > 0);
    await page.ask("say still here");
    assert.match((await page.transcript()).at(-1).text, /still here/);
  });

  it("all at once: the next start is clean, the turn is closed as interrupted, the session goes on", async () => {
    await page.newSession("killed-all");
    await page.send(LONG);
    await page.streams(50);
    await lodge.killAll();
    await lodge.up();
    await page.connected();
    await page.idle();
    await page.shot("killed-all");
    const rows = await page.transcript();
    assert.deepEqual(rows.slice(0, 2).map((row) => row.role), ["user", "assistant"]);
    assert.ok(straight[1].text.startsWith(rows[1].text.slice(0, 50)), "what was received is kept");
    assert.match(rows[1].text, /Interrupted/);
    assert.equal(await page.problems(), 1, "what went wrong is said once");
    await page.ask("say still here");
    assert.match((await page.transcript()).at(-1).text, /still here/);
  });
});
