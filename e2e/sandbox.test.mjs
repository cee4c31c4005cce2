/** Terminals, files, changes, network, findings and limits of a session, in the browser. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { eventually, Lodge } from "./lib/lodge.mjs";

/** A connection to `host` through the broker, with what bash alone can do; prints the first line of the answer. */
const connect = (host) =>
  `exec 3<>/dev/tcp/127.0.0.1/8377; printf 'CONNECT ${host}:443 HTTP/1.1\\r\\nHost: ${host}:443\\r\\n\\r\\n' >&3; head -n 1 <&3`;

function git(folder, ...args) {
  const { status, stderr } = spawnSync("git", ["-C", folder, ...args], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

describe("the panels of a session", () => {
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

  async function terminal() {
    await page.panel("terminal");
    await page.at("terminal-new").click();
    await page.page.locator(".xterm-frame:not([hidden]) .xterm-rows").waitFor();
  }

  const type = (line) => page.page.keyboard.type(`${line}\r`);

  describe("terminal", () => {
    it("answers in the sandbox, in the workspace", async () => {
      await page.newSession("terminals");
      await terminal();
      await type('echo the answer is $((40 + 2)); echo in $(basename "$PWD"); echo below $(cat /proc/1/comm)');
      await page.shows(/the answer is 42/);
      await page.shows(/^in terminals/m);
      await page.shows(/^below (lodge-)?init/m);
      await page.shot("terminal");
      assert.deepEqual(await page.violations(), []);
    });

    it("shows the same after a reload, and works on", async () => {
      await page.reload();
      await page.shows(/the answer is 42/);
      await page.page.locator(".xterm-helper-textarea").first().focus();
      await type("echo after the reload");
      await page.shows(/^after the reload/m);
    });

    it("shows the same after the runner was killed, and works on", async () => {
      await lodge.kill("runner");
      await page.connected();
      await page.shows(/the answer is 42/);
      await page.page.locator(".xterm-helper-textarea").first().focus();
      // At once, while the terminal is still being attached again: no key is lost.
      await type("echo after the kill");
      await page.shows(/^after the kill/m);
      await page.shot("terminal-after-kill");
    });

    it("follows the size of the page", async () => {
      await type("echo width $(tput cols 2>/dev/null || stty size | cut -d' ' -f2)");
      await page.shows(/width \d+/);
      const before = Number(/width (\d+)/.exec(await page.screen())[1]);
      await page.page.locator(".workbench-resize").click();
      await page.page.locator(".workbench.wide").waitFor();
      await page.page.locator(".xterm-helper-textarea").first().focus();
      await eventually("the shell knows the new width", async () => {
        await type("echo wider $(tput cols 2>/dev/null || stty size | cut -d' ' -f2)");
        const wider = [...(await page.screen()).matchAll(/^wider (\d+)/gm)].at(-1)?.[1];
        return Number(wider) > before;
      });
      await page.page.locator(".workbench-resize").click();
    });

    it("is one of several, and tells how its shell ended", async () => {
      await page.at("terminal-new").click();
      await page.at("terminal-tab").nth(1).waitFor();
      await page.page.locator(".xterm-frame:not([hidden]) .xterm-helper-textarea").focus();
      await type("exit 3");
      await page.at("terminal-exit").waitFor();
      assert.match(await page.at("terminal-exit").innerText(), /status 3/);
      await page.shot("terminal-ended");
      await page.at("terminal-close").nth(1).click();
      await eventually("the tab is gone", async () => (await page.at("terminal-tab").count()) === 1);
      await page.shows(/^wider \d+/m);
    });
  });

  describe("files", () => {
    const note = () => join(lodge.workspace("files"), "docs/note.md");

    it("shows and saves a file of the workspace", async () => {
      lodge.prepare("files", { "docs/note.md": "# First\r\nline\r\n", "raw.bin": Buffer.from([0, 255, 254, 1]) });
      await page.newSession("files");
      await page.panel("files");
      await page.page.locator("[data-path=docs]").click();
      await page.page.locator('[data-path="docs/note.md"]').click();
      assert.equal(await page.page.locator('[data-path=".vscode"]').count(), 0, "stand-ins of the sandbox are no files");
      assert.match(await page.at("file-text").innerText(), /# First/);
      await page.at("file-edit").click();
      await page.at("file-editor").fill("# Second\nline\n");
      await page.at("file-save").click();
      await page.at("file-text").filter({ hasText: "# Second" }).waitFor();
      assert.equal(readFileSync(note(), "utf8"), "# Second\r\nline\r\n", "line ends stay what they were");
      await page.shot("files");
      assert.deepEqual(await page.violations(), []);
    });

    it("overwrites nothing that changed meanwhile", async () => {
      await page.at("file-edit").click();
      await page.at("file-editor").fill("# Mine\n");
      writeFileSync(note(), "# Theirs\n");
      await page.at("file-save").click();
      await page.at("file-conflict").waitFor();
      await page.shot("files-conflict");
      assert.equal(readFileSync(note(), "utf8"), "# Theirs\n");
      await page.at("conflict-theirs").click();
      assert.equal(await page.at("file-editor").inputValue(), "# Theirs\n");
      await page.page.getByRole("button", { name: "Cancel" }).click();
    });

    it("shows no binary content, and writes no control file", async () => {
      await page.page.locator('[data-path="raw.bin"]').click();
      await page.at("file-binary").waitFor();
      await page.at("file-new").click();
      await page.page.locator("dialog input").fill(".lodge/sandbox.toml");
      await page.page.locator("dialog button[type=submit]").click();
      await page.at("file-editor").fill("version = 1\n");
      await page.at("file-save").click();
      await page.page.locator(".file-editor .error-note").waitFor();
      await page.shot("files-protected");
      assert.ok(!existsSync(join(lodge.workspace("files"), ".lodge/sandbox.toml")));
    });
  });

  it("shows what Git says", async () => {
    const folder = lodge.prepare("repository", { "kept.txt": "one\n" });
    git(folder, "init", "--quiet", "--initial-branch=trunk");
    git(folder, "add", "kept.txt");
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message=first");
    await page.newSession("repository");
    await page.ask("use bash: echo two >> kept.txt && echo new > added.txt");
    await page.panel("changes");
    await page.page.locator('[data-testid=git-entry][data-path="kept.txt"]').click();
    assert.match(await page.at("git-diff").innerText(), /two/);
    assert.equal(await page.page.locator('[data-path="added.txt"][data-group=untracked]').count(), 1);
    assert.match(await page.at("workbench").innerText(), /trunk/);
    await page.shot("changes");
    assert.deepEqual(await page.violations(), []);
  });

  describe("network", () => {
    it("shows what was denied, and why", async () => {
      await page.newSession("denied", { profile: "development" });
      await page.ask(`use bash: ${connect("nowhere.example")}`);
      await page.panel("network");
      const row = page.page.locator('[data-testid=access-row][data-host="nowhere.example"]');
      await row.waitFor();
      assert.equal(await row.getAttribute("data-decision"), "denied");
      await page.shot("network");
      assert.deepEqual(await page.violations(), []);
    });

    it("asks, also outside of a turn, and does as it is told", async () => {
      await page.newSession("asked", { profile: "minimal" });
      await terminal();
      await type(`${connect("unlisted.example")}; echo ended`);
      await page.at("dialog-network").waitFor();
      assert.match(await page.at("network-destination").innerText(), /unlisted\.example/);
      await page.shot("network-ask");
      assert.deepEqual(await page.violations(), []);
      // By keyboard alone: the dialog has the focus, and Deny is its first button.
      await page.page.keyboard.press("Tab");
      await page.page.keyboard.press("Enter");
      await page.at("dialog-network").waitFor({ state: "detached" });
      await page.page.locator(".xterm-helper-textarea:focus").waitFor({ state: "attached" });
      await page.shows(/^ended/m);
      await page.at("tab-network").click();
      const row = page.page.locator('[data-testid=access-row][data-host="unlisted.example"][data-decision=denied]');
      await row.waitFor();
      await page.shot("network-denied");
    });

    it("lets an allowed host be tried for the rest of the session without asking again", async () => {
      await page.at("tab-terminal").click();
      await page.page.locator(".xterm-frame:not([hidden]) .xterm-helper-textarea").focus();
      await type(`clear; ${connect("other.example")}; echo once`);
      await page.at("permission-session").click();
      await page.shows(/^once/m);
      await page.page.locator(".xterm-frame:not([hidden]) .xterm-helper-textarea").focus();
      await type(`clear; ${connect("other.example")}; echo twice`);
      await page.shows(/^twice/m);
      assert.equal(await page.at("dialog-network").count(), 0);
    });
  });

  it("lists what a turn left behind for tools outside, and puts it away", async () => {
    await page.newSession("findings");
    await page.ask(
      "use bash: mkdir -p sub/.git/hooks && echo x > sub/.git/hooks/pre-commit && echo x > a.txt && ln a.txt b.txt && mkfifo pipe",
    );
    await page.at("findings").waitFor();
    await page.at("findings-show").click();
    for (const kind of ["hook", "hard_link", "nested_repository", "special_file"]) await page.at(`findings-${kind}`).waitFor();
    await page.shot("findings");
    assert.deepEqual(await page.violations(), []);
    await page.at("findings-dismiss").click();
    await page.ask("say nothing new");
    assert.equal(await page.at("findings").count(), 0);
    await page.reload();
    await page.idle();
    assert.equal(await page.at("findings").count(), 0, "what was put away stays away");
  });

  it("shows findings again after a reload until they are put away", async () => {
    await page.ask("use bash: ln a.txt c.txt");
    await page.at("findings").waitFor();
    await page.reload();
    await page.at("findings").waitFor();
  });

  it("says which limit was crossed", async () => {
    lodge.prepare("limited", { ".lodge/sandbox.toml": 'version = 1\n[limits]\ndisk = "16M"\n' });
    await page.newSession("limited");
    await page.ask("use bash: head -c 100M /dev/zero > big; sleep 20");
    const note = page.page.locator(".error-note[data-code=limit_exceeded]");
    await note.waitFor();
    assert.match(await note.innerText(), /limits\.disk: 16 MiB is allowed/);
    assert.equal(await page.at("findings").count(), 0, "the sandbox's own stand-ins are no findings");
    await page.shot("limit");
  });
});
