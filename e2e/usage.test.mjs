/** Usage, budgets and keys in the browser, over the real gateway. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { eventually, Lodge } from "./lib/lodge.mjs";

describe("usage", () => {
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

  const requests = async () => Number((await page.at("usage-totals").innerText()).match(/Requests\s+([\d,]+)/)[1].replaceAll(",", ""));

  it("is empty at first, and then has the session and its model", async () => {
    await page.at("usage-link").click();
    await page.at("usage-empty").waitFor();
    await page.newSession("counted");
    await page.ask("long 20 1");
    await page.at("usage-link").click();
    await page.at("day-chart").waitFor();
    assert.ok((await requests()) > 0);
    assert.match(await page.at("usage-model").innerText(), /^demo\//m);
    assert.equal(await page.page.locator("[data-testid=usage-session] tbody tr").count(), 1);
    await page.at("measure-tokens").click();
    assert.match(await page.at("day-value").innerText(), /[1-9].* tokens$/);
    await page.at("as-table").click();
    await page.page.getByRole("row", { name: new Date().toISOString().slice(0, 10) }).waitFor();
    assert.deepEqual(await page.violations(), []);
    await page.shot("usage-own");
  });

  it("makes a key, shows it once, gives it a new text and ends it", async () => {
    await page.at("usage-all").click();
    await page.at("usage-user").waitFor();
    await page.shot("usage-all");
    await page.at("section-keys").click();
    await page.at("add-key").click();
    await page.at("key-user").fill("ann");
    await page.at("key-name").fill("laptop");
    await page.at("key-dollars").fill("0.000000005");
    await page.at("key-save").click();
    const first = await page.at("secret").innerText();
    await page.page.keyboard.press("Escape");
    await page.shot("usage-secret");
    await page.at("secret-done").click();
    const row = page.page.locator("[data-testid=key]");
    await row.waitFor();
    assert.ok(!(await page.page.content()).includes(first), "the text is gone");
    const budget = page.page.locator("[data-testid=budget][data-scope^='key:']");
    await page.at("section-budgets").click();
    await budget.waitFor();
    assert.match(await budget.innerText(), /\$0\.000000005 left of \$0\.000000005 a month/);
    await page.page.goBack();
    await page.page.getByRole("button", { name: "Rotate laptop" }).click();
    await page.at("confirm").click();
    assert.notEqual(await page.at("secret").innerText(), first);
    await page.at("secret-done").click();
    await page.page.getByRole("button", { name: "Revoke laptop" }).click();
    await page.at("confirm").click();
    await eventually("the key is revoked", async () => (await row.getByTestId("key-state").innerText()) === "Revoked");
  });

  it("sets a budget and takes it away", async () => {
    await page.at("section-budgets").click();
    await page.at("add-budget").click();
    await page.at("budget-name").fill("ann");
    await page.at("budget-dollars").fill("12.5");
    await page.at("budget-save").click();
    const budget = page.page.locator("[data-testid=budget][data-scope='user:ann'][data-window=month]");
    await budget.waitFor();
    assert.match(await budget.innerText(), /\$12\.50 left of \$12\.50 a month[^]*begins again/);
    assert.deepEqual(await page.violations(), []);
    await page.shot("usage-budgets");
    await budget.getByRole("button", { name: /Remove/ }).click();
    await page.at("confirm").click();
    await budget.waitFor({ state: "detached" });
  });
});
