/** The main job: log in, pick an agent, work with it, reload, stop. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { Lodge, REPOSITORY } from "./lib/lodge.mjs";

const LONG = "long 400 20";

describe("a session in the browser", () => {
  let lodge, browser, page;

  before(async () => {
    lodge = await Lodge.start();
    browser = await launch();
    page = await LodgePage.open(browser);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  it("logs in by a link that works once", async () => {
    await page.login(lodge.link);
    await page.shot("logged-in");
    assert.ok(!page.page.url().includes("token"), "the token stays in no address");
    const other = await LodgePage.open(browser);
    await other.page.goto(lodge.link);
    await other.at("login-error").waitFor();
    await other.shot("link-used-twice");
    await other.close();
  });

  it("runs a tool in the workspace and nowhere else", async () => {
    await page.newSession("hello");
    await page.ask("use bash: echo hi > hello.txt && cat hello.txt");
    const card = page.at("tool-card").first();
    assert.equal(await card.getAttribute("data-tool"), "bash");
    assert.equal(await card.getAttribute("data-state"), "done");
    assert.match(await card.innerText(), /echo hi > hello\.txt/);
    assert.match(await page.at("tool-output").first().innerText(), /^hi$/m);
    await page.shot("tool-card");
    const file = join(lodge.workspace("hello"), "hello.txt");
    assert.equal(readFileSync(file, "utf8"), "hi\n");
    assert.deepEqual(lodge.find("hello.txt"), [file]);
    for (const folder of [homedir(), REPOSITORY, process.cwd(), "/tmp"]) {
      assert.ok(!existsSync(join(folder, "hello.txt")), folder);
    }
  });

  it("shows the same transcript after a reload in mid-stream", async () => {
    await page.newSession("straight");
    await page.ask(LONG);
    const straight = await page.transcript();
    assert.deepEqual(straight.map((row) => row.role), ["user", "assistant"]);
    assert.ok(straight[1].text.length > 400, "the answer is long");

    await page.newSession("reloaded");
    await page.send(LONG);
    await page.streams(100);
    await page.reload();
    await page.streams(1);
    await page.shot("reloaded-in-mid-stream");
    await page.idle();
    await page.shot("reloaded-done");
    assert.deepEqual(await page.transcript(), straight);

    await page.reload();
    await page.idle();
    assert.deepEqual(await page.transcript(), straight);
  });

  it("keeps what was typed across a reload", async () => {
    const draft = "a thought that is not finished\nand a second line";
    await page.at("composer").fill(draft);
    await page.reload();
    assert.equal(await page.at("composer").inputValue(), draft);
    await page.shot("draft");
    await page.at("composer").fill("");
  });

  it("stops in mid-stream within five seconds, and goes on with the next prompt", async () => {
    await page.newSession("stopped");
    await page.send(LONG);
    await page.streams(50);
    const begin = Date.now();
    await page.at("stop").click();
    await page.idle(6_000);
    assert.ok(Date.now() - begin < 6_000);
    await page.shot("stopped");
    const stopped = await page.transcript();
    assert.ok(stopped.at(-1).text.length > 50, "what was received is kept");
    await page.ask("say after the stop");
    assert.match((await page.transcript()).at(-1).text, /after the stop/);
  });

  it("lists the sessions", async () => {
    assert.ok((await page.at("session-item").count()) >= 4);
  });
});
