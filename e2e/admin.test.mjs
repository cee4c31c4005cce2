/** What administrators run, and what a person sees whose budget is used up: over the real gateway, with pi and a provider that costs money. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { eventually, Lodge } from "./lib/lodge.mjs";
import { Provider } from "./lib/provider.mjs";

/** Two dollars a million tokens in, ten out. */
const config = (url) => `[[provider]]
name = "vendor"
kind = "openai_compatible"
base_url = "${url}"
insecure_http = true
key_env = "E2E_VENDOR_KEY"
models = [{ id = "m", max_output = 1000, context_window = 100000, price = { input = 2, output = 10 } }]
`;

describe("administration", () => {
  let provider, lodge, browser, page;

  before(async () => {
    provider = await Provider.start();
    lodge = await Lodge.start({ config: config(provider.url), env: { E2E_VENDOR_KEY: "sk-e2e-0123456789abcdef" } });
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    await page.newSession("costs");
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
    await provider?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  const open = async (section) => {
    await page.page.goto(`${new URL(page.page.url()).origin}/#/usage/all${section === "usage" ? "" : `/${section}`}`);
    await page.page.locator(`[data-testid=section-${section}][aria-current=page]`).waitFor();
  };

  const asksOf = (text) => provider.prompts.filter((prompt) => prompt.includes(text)).length;

  it("ends a request that runs for too long: its agent stops with the reason, and asks no second time", async () => {
    await page.ask("hello");
    await page.send("go on for long");
    await page.streams(60);
    const session = page.page.url();
    await open("requests");
    const row = page.at("request").first();
    await row.waitFor();
    assert.match(await row.innerText(), /vendor\/m/);
    assert.deepEqual(await page.violations(), []);
    await page.shot("admin-requests");
    await row.getByRole("button", { name: /End the request/ }).click();
    await page.shot("admin-requests-end");
    await page.at("confirm").click();
    await eventually("the provider is let go", () => provider.abandoned === 1, 60_000);
    await page.at("no-requests").waitFor();
    await page.page.goto(session);
    await page.idle();
    await eventually("the reason is shown", async () => /ended by hand/.test((await page.rows()).at(-1).text), 60_000);
    await page.shot("admin-request-ended");
    assert.equal(asksOf("go on for long"), 1);
    // Its session works on.
    await page.ask("hello again");
    assert.match((await page.transcript()).at(-1).text, /Hello from the provider/);
  });

  it("tells a person once whose budget is used up, of what and until when", async () => {
    const uid = process.getuid();
    await open("budgets");
    await page.at("add-budget").click();
    await page.at("budget-name").fill(String(uid));
    await page.at("budget-dollars").fill("0.0125");
    await page.page.getByLabel("Window").selectOption("day");
    await page.at("budget-save").click();
    await page.page.locator("[data-testid=budget][data-window=day]").waitFor();
    await page.openSession("costs");
    const [asked, problems] = [provider.prompts.length, await page.problems()];
    await page.ask("one more");
    const note = page.page.locator(".error-note[data-code=budget_exceeded]");
    await note.waitFor();
    assert.match(await note.innerText(), /The daily budget of .* is \$0\.0125: \$0\.\d+ spent, .* begins anew on \d{4}-\d\d-\d\d/);
    assert.equal(await page.problems(), problems + 1);
    assert.deepEqual(await page.violations(), []);
    await page.shot("budget-used-up");
    // The provider heard nothing, and the agent asked the gateway once.
    assert.equal(provider.prompts.length, asked);
    assert.match(await lodge.lodgectl("metrics"), /^lodge_gateway_refusals_total\{reason="budget"\} 1$/m);
    await page.at("see-budgets").click();
    const budget = page.page.locator("[data-testid=budget][data-window=day]");
    await budget.waitFor();
    assert.match(await budget.innerText(), /left of \$0\.0125 a day[^]*begins again/);
    await page.shot("budget-own");
    // Raised, it goes on.
    await open("budgets");
    await page.page.getByRole("button", { name: /Change the budget/ }).click();
    await page.at("budget-dollars").fill("50");
    await page.at("budget-save").click();
    await eventually("the budget is raised", async () => /of \$50\.00/.test(await budget.innerText()), 60_000);
    assert.deepEqual(await page.violations(), []);
    await page.shot("admin-budgets");
    await page.openSession("costs");
    await page.ask("and now");
    assert.equal(asksOf("and now"), 1);
  });

  it("makes a key with limits, and changes it over with time for those who hold it", async () => {
    await open("keys");
    await page.at("add-key").click();
    await page.at("key-user").fill("ann");
    await page.at("key-name").fill("build server");
    await page.at("key-more").locator("summary").click();
    await page.at("key-tpm").fill("90000");
    await page.at("key-on-limit").selectOption("clamp");
    assert.deepEqual(await page.violations(), []);
    await page.shot("admin-key-new");
    await page.at("key-save").click();
    await page.at("secret-done").click();
    const row = page.at("key");
    assert.match(await row.innerText(), /90,000 tokens a minute/);
    await page.page.getByRole("button", { name: "Rotate build server" }).click();
    await page.at("rotate-overlap").selectOption("86400");
    await page.at("confirm").click();
    await page.at("secret-done").click();
    await eventually("the overlap is shown", async () => /its old text too, until/.test(await row.innerText()), 60_000);
    assert.deepEqual(await page.violations(), []);
    await page.shot("admin-keys");
  });

  it("says how the accounts are, tests them, and reads the configuration again", async () => {
    await open("accounts");
    await page.at("account").waitFor();
    assert.match(await page.at("account").innerText(), /120 of 500 left/);
    await page.at("test-accounts").click();
    await page.at("account-test").waitFor();
    assert.match(await page.at("account-test").innerText(), /it works/);
    lodge.configure(`${config(provider.url)}\nnonsense = 1\n`);
    await page.at("reload-config").click();
    const note = page.page.locator(".error-note");
    await note.first().waitFor();
    assert.match(await note.first().innerText(), /nonsense/);
    assert.deepEqual(await page.violations(), []);
    await page.shot("admin-accounts-config-error");
    lodge.configure(config(provider.url));
    await page.at("reload-config").click();
    await eventually("it is in force", async () => /in force/.test(await page.at("reload-outcome").innerText()), 60_000);
    await page.shot("admin-accounts");
  });

  it("has every change in the audit, with who made it", async () => {
    await open("audit");
    const cancelled = page.page.locator("[data-testid=audit-entry][data-action='request.cancel']");
    await cancelled.waitFor();
    assert.match(await cancelled.innerText(), /local[^]*vendor[^]*Done/);
    await page.at("audit-search").fill("GATEWAY.reload");
    await page.at("audit-search-go").click();
    const actions = () => page.at("audit-entry").evaluateAll((rows) => new Set(rows.map((row) => row.dataset.action)).size);
    await eventually("the search is done", async () => (await actions()) === 1, 60_000);
    assert.match(await page.at("audit-entry").filter({ hasText: "Refused" }).first().innerText(), /gateway\.reload/);
    assert.deepEqual(await page.violations(), []);
    await page.page.getByLabel("Only entries with this text").fill("");
    await cancelled.waitFor();
    await page.shot("admin-audit");
  });

  it("reads well on a narrow screen and in the dark", async () => {
    await page.page.setViewportSize({ width: 390, height: 844 });
    await page.page.emulateMedia({ colorScheme: "dark" });
    for (const section of ["usage", "budgets", "keys", "accounts", "requests", "audit"]) {
      await open(section);
      await page.page.locator(".usage-card, .totals").first().waitFor();
      await eventually(`${section} is loaded`, async () => (await page.page.getByText("Loading…").count()) === 0, 60_000);
      const wider = await page.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wider <= 0, `${section} is ${wider} px too wide`);
      assert.deepEqual(await page.violations(), []);
      await page.shot(`admin-${section}-narrow-dark`);
    }
  });
});
