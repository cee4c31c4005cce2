/** Four harnesses behind one page: the same prompt, permissions, steering and queueing, stopping, plans. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch, sideBySide } from "./lib/browser.mjs";
import { eventually, Lodge } from "./lib/lodge.mjs";

const TITLES = { pi: "pi", codex: "Codex", claude: "Claude Code", gemini: "Gemini CLI" };
const NAMES = Object.keys(TITLES);
const PROMPT = "think+bash: echo hello > hello.txt && cat hello.txt\nsay It is in `hello.txt`.";
const LONG = "long 400 20";

describe("every harness", () => {
  let lodge, browser, page;

  before(async () => {
    lodge = await Lodge.start({ harnesses: NAMES });
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    page.page.setDefaultTimeout(20_000);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(async () => {
    // A dialog that a failure left open must not fail the next test.
    if ((await page.page.locator("dialog[open]").count()) > 0) await page.reload();
    assert.deepEqual(page.complaints, []);
  });

  const made = (harness, file) => join(lodge.workspace(harness), file);

  it("is in the picker, with what can be used first", async () => {
    await page.at("new-session").first().click();
    await page.at("harness-pi").waitFor();
    const cards = await page.page.locator(".agent").evaluateAll((elements) =>
      elements.map((element) => ({
        installed: element.dataset.installed === "true",
        title: element.querySelector(".harness-title").firstChild.textContent.trim(),
      })),
    );
    const compare = (a, b) => Number(b.installed) - Number(a.installed) || a.title.localeCompare(b.title);
    assert.deepEqual(cards, [...cards].sort(compare));
    const installed = cards.filter((card) => card.installed).map((card) => card.title);
    for (const title of Object.values(TITLES)) assert.ok(installed.includes(title), title);
    assert.match(await page.at("harness-claude").innerText(), /accepts Anthropic's terms/);
    await page.shot("harness-picker");
    assert.deepEqual(await page.violations(), []);
    await page.page.keyboard.press("Escape");
  });

  describe("does the same with the same prompt", () => {
    for (const harness of NAMES) {
      it(TITLES[harness], async () => {
        await page.newSession(harness, { harness });
        await page.ask(PROMPT);
        const card = page.at("tool-card").first();
        assert.equal(await card.getAttribute("data-state"), "done");
        const head = (await card.locator(".tool-head").innerText()).replace(/\s+/g, " ").trim();
        assert.match(head, /^Run echo hello > hello\.txt && cat hello\.txt\b/);
        // Gemini CLI tells what it ran and not what came of it.
        if (harness !== "gemini") assert.equal((await page.at("tool-output").first().innerText()).trim(), "hello");
        const rows = await page.transcript();
        assert.match(rows.at(-1).text, /It is in hello\.txt\./);
        assert.equal(await page.problems(), 0);
        assert.equal(readFileSync(made(harness, "hello.txt"), "utf8"), "hello\n");
        assert.match(await page.page.locator(".header-sub").innerText(), new RegExp(`^${TITLES[harness]}`));
        await page.dismissNotices();
        await page.shot(`harness-${harness}`);
        assert.deepEqual(await page.violations(), []);
      });
    }

    it("side by side", async () => {
      await sideBySide(browser, "harnesses", NAMES.map((name) => ({ title: TITLES[name], shot: `harness-${name}` })));
    });
  });

  it("is steered where it can be: pi takes a prompt up in its turn", async () => {
    await page.openSession("pi");
    await page.send("use bash: sleep 2\nsay the first script went on");
    await page.working();
    assert.match(await page.at("send").innerText(), /Steer/);
    await page.send("say steered");
    await page.idle();
    const rows = await page.transcript();
    assert.equal(rows.at(-1).text, "steered");
    const first = rows.filter((row) => row.role === "assistant" && row.text.includes("the first script went on"));
    assert.deepEqual(first, [], "it did not wait for the end of the turn");
    await page.shot("harness-pi-steered");
  });

  it("has its prompts queued where it cannot be steered: gemini answers them in a turn of their own", async () => {
    await page.openSession("gemini");
    await page.send("long 60 20");
    await page.working();
    assert.match(await page.at("send").innerText(), /Queue/);
    assert.match(await page.page.locator("#composer-note").innerText(), /cannot be steered/);
    await page.at("composer").fill("say it was queued");
    await page.at("send").click();
    await page.at("queue-entry").waitFor();
    await page.shot("harness-gemini-queued");
    await page.at("queue-entry").waitFor({ state: "detached" });
    await page.idle();
    const rows = await page.transcript();
    assert.match(rows.at(-1).text, /it was queued/);
    assert.match(rows.at(-3).text, /tok59/, "the turn before was left in peace");
  });

  describe("stops in mid-answer, and goes on with the next prompt", () => {
    for (const harness of NAMES) {
      it(TITLES[harness], async () => {
        await page.openSession(harness);
        await page.send(LONG);
        await page.streams(30);
        const begin = Date.now();
        await page.at("stop").click();
        await page.idle(6_000);
        assert.ok(Date.now() - begin < 6_000);
        assert.match((await page.transcript()).at(-1).text, /tok0 .*Stopped/);
        await page.ask("say after the stop");
        assert.match((await page.transcript()).at(-1).text, /after the stop/);
      });
    }
  });

  describe("shows its plan", () => {
    const plan = () =>
      page
        .at("plan-entry")
        .evaluateAll((items) => items.filter((item) => item.closest("[data-testid=plan]")).map((item) => `${item.dataset.status}: ${item.lastChild.lastChild.textContent}`));
    const wanted = ["completed: Look around", "in_progress: Change it", "pending: Test it"];
    // Codex and Gemini CLI offer their tools for plans to models of their vendors only, pi has none.
    const scripts = {
      "opencode-acp": "use plan: x Look around | > Change it | Test it\nsay planned",
      claude: [
        "use plan: Look around | Change it | Test it",
        'use tool TaskUpdate {"taskId":"1","status":"completed"}',
        'use tool TaskUpdate {"taskId":"2","status":"in_progress"}',
        "say planned",
      ].join("\n"),
    };
    for (const [harness, script] of Object.entries(scripts)) {
      it(harness, async () => {
        if (harness in TITLES) await page.openSession(harness);
        else await page.newSession(harness, { harness });
        await page.ask(script);
        assert.deepEqual(await plan(), wanted);
        await eventually("the answer is seen above the plan", async () => {
          const answer = await page.at("message-assistant").last().boundingBox();
          return answer.y + answer.height <= (await page.at("plan").boundingBox()).y;
        });
        await page.shot(`harness-${harness}-plan`);
        assert.deepEqual(await page.violations(), []);
        await page.reload();
        await page.idle();
        assert.deepEqual(await plan(), wanted, "after a reload");
      });
    }
  });

  it("shows changes and sub-agents: Claude Code writes, edits and sends another one", async () => {
    await page.openSession("claude");
    await page.ask("use write: notes.md | one\\ntwo\\n\nuse edit: notes.md | two | three\nsay changed");
    const edit = page.at("tool-card").and(page.page.locator("[data-tool=Edit]")).last();
    assert.match(await edit.locator(".tool-head").innerText(), /^\s*Edit\s+notes\.md/);
    assert.match(await edit.locator(".diff-add").innerText(), /three/);
    await page.shot("harness-claude-changes");
    const task = { description: "look around", prompt: "use bash: echo from below", subagent_type: "general-purpose", run_in_background: false };
    await page.ask(`use tool Task ${JSON.stringify(task)}\nsay it is back`);
    const card = page.page.locator("[data-testid=tool-card][data-tool=Task], [data-testid=tool-card][data-tool=Agent]").last();
    assert.match(await card.locator(".tool-head").innerText(), /^\s*Sub-agent\s+look around/);
    await card.getByTestId("subagent").locator("summary").click();
    assert.match(await card.innerText(), /from below/);
    await page.shot("harness-claude-subagent");
    assert.deepEqual(await page.violations(), []);
  });
});

describe("every harness that asks before its tools run", () => {
  let lodge, browser, page;

  before(async () => {
    lodge = await Lodge.start({ harnesses: NAMES, args: ["--ask-permissions"] });
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    page.page.setDefaultTimeout(20_000);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  for (const harness of NAMES) {
    it(TITLES[harness], async () => {
      const made = (file) => join(lodge.workspace(harness), file);
      await page.newSession(harness, { harness });
      await page.send("use bash: touch allowed.txt && echo made");
      const dialog = page.at("dialog-permission");
      await dialog.waitFor();
      assert.match(await dialog.innerText(), /touch allowed\.txt && echo made/);
      assert.ok(!existsSync(made("allowed.txt")), "nothing runs before the answer");
      for (const choice of ["once", "session", "deny"]) await page.at(`permission-${choice}`).waitFor();
      await page.shot(`harness-${harness}-permission`);
      assert.deepEqual(await page.violations(), []);
      await page.at("permission-once").click();
      await page.idle();
      assert.ok(existsSync(made("allowed.txt")));

      await page.send("use bash: touch denied.txt && echo made");
      await page.at("permission-deny").click();
      await page.idle();
      assert.ok(!existsSync(made("denied.txt")));
      assert.equal(await page.at("tool-card").last().getAttribute("data-state"), "error");
      await page.shot(`harness-${harness}-denied`);
    });
  }

  it("shows the change that it is about to make", async () => {
    await page.openSession("claude");
    await page.send("use write: new.txt | a line");
    await page.at("dialog-permission").waitFor();
    assert.match(await page.at("dialog-permission").innerText(), /new\.txt/);
    assert.match(await page.at("dialog-permission").innerText(), /a line/);
    await page.shot("harness-claude-permission-write");
    await page.at("permission-session").click();
    await page.idle();
    assert.equal(readFileSync(join(lodge.workspace("claude"), "new.txt"), "utf8").trim(), "a line");
  });

  it("asks several questions one after the other", async () => {
    await page.openSession("claude");
    const option = (label) => ({ label, description: `The one called ${label}` });
    const questions = [
      { question: "Which colour?", header: "Colour", multiSelect: false, options: [option("Red"), option("Green")] },
      { question: "Which sizes?", header: "Sizes", multiSelect: true, options: [option("Small"), option("Large"), option("Huge")] },
    ];
    await page.send(`use tool AskUserQuestion ${JSON.stringify({ questions })}`);
    const dialog = page.at("dialog-question");
    await dialog.waitFor();
    assert.match(await page.at("more-questions").innerText(), /1 more question/);
    await dialog.getByRole("radio", { name: /Green/ }).check();
    await page.shot("harness-claude-question");
    assert.deepEqual(await page.violations(), []);
    await page.at("answer-submit").click();
    await dialog.getByText("Which sizes?").waitFor();
    for (const size of [/Small/, /Huge/]) await dialog.getByRole("checkbox", { name: size }).check();
    await page.shot("harness-claude-question-2");
    await page.at("answer-submit").click();
    await page.idle();
    assert.match((await page.transcript()).at(-1).text, /Green.*Small, Huge/);
  });
});

describe("a harness that is not installed", () => {
  let lodge, browser, page;

  before(async () => {
    // Without npm no installation gets far: what a real one does is a test of its own, with the registry.
    lodge = await Lodge.start({ harnesses: ["pi"], alone: true, env: { PATH: "/nowhere" } });
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    page.page.setDefaultTimeout(20_000);
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  it("comes after what can be used, and asks for consent to its vendor's terms", async () => {
    await page.at("new-session").first().click();
    await page.at("install-claude").waitFor();
    const titles = await page.page.locator(".agent .harness-title").evaluateAll((all) => all.map((one) => one.firstChild.textContent.trim()));
    assert.equal(titles[0], "pi");
    assert.ok(await page.page.locator("[data-testid=harness-claude] input").isDisabled());
    await page.shot("harness-not-installed");
    assert.deepEqual(await page.violations(), []);
    await page.at("install-claude").click();
    assert.match(await page.at("dialog-confirm").innerText(), /accepts Anthropic's terms/);
    await page.shot("harness-terms");
    await page.page.keyboard.press("Escape");
    assert.equal(await page.at("dialog-confirm").count(), 0);
    assert.equal(await page.at("dialog-new-session").count(), 1, "only the question is gone");
  });

  it("is installed from the page, which says how that ended", async () => {
    await page.at("install-codex").click();
    const problem = page.page.locator(".agent", { hasText: "Codex" }).locator(".harness-problem");
    await problem.waitFor();
    assert.match(await problem.innerText(), /npm is needed/);
    await page.shot("harness-install-failed");
    assert.deepEqual(await page.violations(), []);
    assert.ok(await page.at("install-codex").isEnabled(), "it can be tried again");
  });
});
