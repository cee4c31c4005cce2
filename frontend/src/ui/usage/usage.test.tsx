import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../../app/context";
import { parseRoute, type Section } from "../../app/route";
import { formatNanos, parseDollars, percentOf, readNanos } from "../../lib/money";
import { fakeEnvironment } from "../../socket/testing";
import { Client } from "../../state/client";
import { readBudgets, readUsage, type UsageRow } from "./data";
import { DayChart } from "./DayChart";
import { everyDay, MAX_DAYS, sinceDays, totalOf } from "./days";
import { EMPTY, newKeyOf } from "./KeyDialogs";
import { UsagePage } from "./UsagePage";

const NOW = Date.parse("2026-11-20T15:00:00Z");

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  readonly idempotencyKey: string | undefined;
}

type Answers = Readonly<Record<string, unknown>>;

let calls: Call[] = [];

/** Answers by method and path without query; an `error` in an answer is a failure. */
function serve(answers: Answers) {
  calls = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    const path = url.replace("/api/v1", "");
    const headers = (init.headers ?? {}) as Readonly<Record<string, string>>;
    const method = init.method ?? "GET";
    const body = typeof init.body === "string" ? (JSON.parse(init.body) as unknown) : undefined;
    calls.push({ method, path, body, idempotencyKey: headers["idempotency-key"] });
    const answer = answers[`${method} ${path.split("?")[0] ?? ""}`] ?? answers[`${method} ${path.split("&")[0] ?? ""}`];
    if (answer === undefined) return Promise.resolve(new Response(null, { status: 204 }));
    const failed = typeof answer === "object" && answer !== null && "error" in answer;
    return Promise.resolve(new Response(JSON.stringify(answer), { status: failed ? 503 : 200 }));
  });
}

const row = (name: string, cost: string, over: Answers = {}) => ({ name, requests: 2, input_tokens: 100, output_tokens: 50, cost, ...over });

const budget = { scope: "user:ann", window: "month", limit: "20000000000", spent: "4000000000", reserved: "500000000", left: "15500000000", resets_at: 1_796_083_200 };
const key = { id: "k1", name: "laptop", user: "ann", models: ["claude-*"], rpm: 0, expires: 0, created: 1, revoked: false };

const OWN: Answers = {
  "GET /me": { account: "local", administrator: false },
  "GET /usage?by=day": { rows: [row("2026-11-18", "1000000000"), row("2026-11-20", "234000001", { inexact: 1, unpriced: 1 })] },
  "GET /usage?by=model": { rows: [row("anthropic/claude", "1234000001")] },
  "GET /usage?by=session": { rows: [row("0191", "1000000000"), row("", "234000001")] },
  "GET /budgets": { budgets: [budget] },
  "GET /keys": { keys: [key] },
  "GET /requests": { requests: [] },
  "GET /models": { models: [{ id: "a/m/1", context_window: 200_000 }, { id: "a/new" }] },
  "GET /prices": { prices: [{ provider: "a", model: "m/1", source: "free", input: "2500000000", output: "1" }, { provider: "a", model: "new", source: "", input: "0", output: "0" }] },
};

const ALL: Answers = {
  "GET /me": { account: "local", administrator: true },
  "GET /admin/usage?by=day": { rows: [row("2026-11-20", "1")] },
  "GET /admin/usage?by=model": { rows: [row("m", "1")] },
  "GET /admin/usage?by=user": { rows: [row("1000", "1")] },
  "GET /admin/budgets": { budgets: [budget] },
  "GET /admin/keys": { keys: [key, { ...key, id: "k2", name: "old", revoked: true }] },
  "POST /admin/keys": { key: { id: "k3" }, secret: "lodge-the-text" },
  "POST /admin/keys/k1/rotate": { key: { id: "k1" }, secret: "lodge-the-new-text" },
};

function page(whose: "own" | "all", section: Section = "usage") {
  const client = new Client(fakeEnvironment());
  return render(
    <ClientContext value={client}>
      <UsagePage whose={whose} section={section} onMenu={() => undefined} />
    </ClientContext>,
  );
}

beforeEach(() => {
  vi.useFakeTimers({ now: NOW, toFake: ["Date"] });
});

afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("money", () => {
  it("is written with every digit it has", () => {
    for (const [nanos, text] of [
      [0n, "$0.00"],
      [1n, "$0.000000001"],
      [12_000n, "$0.000012"],
      [100_000_000n, "$0.10"],
      [1_234_500_000_000n, "$1,234.50"],
      [9_223_372_036_854_775_807n, "$9,223,372,036.854775807"],
    ] as const) {
      expect(formatNanos(nanos)).toBe(text);
    }
  });

  it("is read exactly or not at all", () => {
    expect(readNanos("9007199254740993")).toBe(9_007_199_254_740_993n);
    for (const odd of [undefined, 5, "", "-1", "1e9", "1.5", "9".repeat(40)]) expect(readNanos(odd)).toBe(0n);
    for (const [text, nanos] of [["5", 5_000_000_000n], [" $0.25 ", 250_000_000n], ["1,000.5", 1_000_500_000_000n], ["0.000000001", 1n]] as const) {
      expect(parseDollars(text)).toBe(nanos);
    }
    for (const odd of ["", "-5", "5usd", "1.0000000001", "1,00", "1e3", ".5", "0x5"]) expect(parseDollars(odd)).toBeUndefined();
  });

  it("is a part of what there is", () => {
    expect([percentOf(1n, 3n), percentOf(5n, 0n), percentOf(0n, 0n), percentOf(9n, 3n)]).toEqual([33.3, 100, 0, 100]);
  });
});

describe("days", () => {
  const day = (name: string): UsageRow => ({ name, requests: 1, inexact: 0, unpriced: 0, input: 1, output: 1, cost: 1n });

  it("have no gaps and end today", () => {
    const since = sinceDays(7, NOW);
    const days = everyDay([day("2026-11-16")], since, NOW);
    expect(days.map(({ name, requests }) => [name.slice(8), requests])).toEqual([["14", 0], ["15", 0], ["16", 1], ["17", 0], ["18", 0], ["19", 0], ["20", 0]]);
    expect(everyDay([day("2026-11-19")], 0, NOW).map(({ name }) => name)).toEqual(["2026-11-19", "2026-11-20"]);
    expect(everyDay([day("2020-01-01")], 0, NOW)).toHaveLength(MAX_DAYS);
    expect(everyDay([], 0, NOW)).toHaveLength(1);
    expect(totalOf(days).cost).toBe(1n);
  });
});

describe("reading", () => {
  it("survives answers that are none", () => {
    for (const odd of [undefined, null, 5, "x", [], { rows: 5 }, { rows: [null, 5] }]) expect(Array.isArray(readUsage(odd))).toBe(true);
    expect(readBudgets({ budgets: [{ limit: 5 }] })[0]).toMatchObject({ limit: 0n, resetsAt: undefined });
  });
});

describe("DayChart", () => {
  const rows = everyDay(readUsage(OWN["GET /usage?by=day"]), sinceDays(7, NOW), NOW);

  it("tells each day to who walks through it with keys", () => {
    render(<DayChart rows={rows} measure="cost" />);
    const chart = screen.getByRole("slider", { name: "Cost by day" });
    expect(chart.getAttribute("aria-valuetext")).toContain("$0.234000001");
    fireEvent.keyDown(chart, { key: "ArrowLeft" });
    fireEvent.keyDown(chart, { key: "ArrowLeft" });
    expect(chart.getAttribute("aria-valuetext")).toContain("$1.00");
    fireEvent.keyDown(chart, { key: "Home" });
    fireEvent.keyDown(chart, { key: "ArrowLeft" });
    expect([chart.getAttribute("aria-valuenow"), chart.getAttribute("aria-valuetext")?.endsWith("$0.00")]).toEqual(["1", true]);
  });

  it("is a table for who wants one", () => {
    render(<DayChart rows={rows} measure="tokens" />);
    expect(screen.getByTestId("day-value").textContent).toContain("150 tokens");
    fireEvent.click(screen.getByTestId("as-table"));
    expect(screen.queryByTestId("day-chart")).toBeNull();
    const cells = within(screen.getByRole("row", { name: /2026-11-18/ })).getAllByRole("cell");
    expect(cells.map((cell) => cell.textContent)).toEqual(["$1.00", "100", "50", "2"]);
  });
});

describe("one's own usage", () => {
  it("is shown with totals, budgets and keys, and nothing to change", async () => {
    serve(OWN);
    page("own");
    expect((await screen.findByTestId("total-cost")).textContent).toBe("$1.234000001");
    expect(screen.getByTestId("usage-session").textContent).toContain("Outside of sessions");
    expect(screen.getByText(/One request .* counted at its bound/)).toBeDefined();
    expect(screen.getByText(/One request has a price that nobody knows/)).toBeDefined();
    const shown = await screen.findByTestId("budget");
    expect(shown.textContent).toMatch(/\$15\.50 left of \$20\.00 a month.*\$4\.00 spent, \$0\.50 held.*begins again/);
    expect(within(shown).getByRole("progressbar").getAttribute("aria-valuenow")).toBe("22.5");
    await screen.findByTestId("key");
    const models = await screen.findAllByTestId("catalog-model");
    expect(models.map((model) => within(model).getAllByRole("cell").map((cell) => cell.textContent))).toEqual([["200k", "$2.50", "$0.000000001"], ["unknown", "unknown"]]);
    for (const name of [/Rotate/, /Revoke/, /Create a key/, /Set a budget/, /Remove/]) expect(screen.queryByRole("button", { name })).toBeNull();
    expect(screen.queryByTestId("usage-all")).toBeNull();
    expect(calls.some((call) => call.path.startsWith("/admin"))).toBe(false);
  });

  it("is asked for again with another period", async () => {
    serve(OWN);
    page("own");
    await screen.findByTestId("total-cost");
    fireEvent.change(screen.getByTestId("usage-period"), { target: { value: "0" } });
    await waitFor(() => expect(calls.some((call) => call.path === "/usage?by=day&since=0")).toBe(true));
  });

  it("says that there is none, and why it could not be had", async () => {
    serve({ ...OWN, "GET /usage?by=day": { rows: [] }, "GET /budgets": { budgets: [] }, "GET /keys": { keys: [] } });
    page("own");
    expect(screen.getAllByText("Loading…").length).toBe(5);
    await screen.findByTestId("usage-empty");
    await screen.findByText("Nothing limits what you may spend.");
    cleanup();
    serve({ "GET /usage": { error: { code: "unavailable", message: "the gateway does not answer" } } });
    page("own");
    await screen.findByText("the gateway does not answer");
  });
});

describe("administration", () => {
  it("names who runs sessions", async () => {
    serve(ALL);
    page("all");
    expect((await screen.findByTestId("usage-user")).textContent).toContain("Sessions of uid 1000");
    await screen.findByTestId("usage-all");
  });

  it("makes a key, once for one dialog, and shows its text until it is put away", async () => {
    serve({ ...ALL, "POST /admin/keys": { error: { code: "unavailable", message: "away" } } });
    page("all", "keys");
    fireEvent.click(screen.getByTestId("add-key"));
    fireEvent.change(screen.getByTestId("key-user"), { target: { value: " eve " } });
    fireEvent.change(screen.getByTestId("key-dollars"), { target: { value: "0.5" } });
    fireEvent.change(screen.getByTestId("key-tpm"), { target: { value: "9" } });
    fireEvent.change(screen.getByTestId("key-on-limit"), { target: { value: "clamp" } });
    fireEvent.click(screen.getByTestId("key-save"));
    await screen.findByText("away");
    const failed = calls;
    serve(ALL);
    fireEvent.click(screen.getByTestId("key-save"));
    expect((await screen.findByTestId("secret")).textContent).toBe("lodge-the-text");
    const asked = [...failed, ...calls].filter((call) => call.method === "POST");
    expect(asked[0]?.body).toMatchObject({ user: "eve", name: "", models: [], rpm: 0, expires: 0, on_limit: "clamp", tpm: 9, budgets: [{ window: "month", limit: "500000000" }] });
    expect(asked).toHaveLength(2);
    expect(asked[0]?.idempotencyKey).toMatch(/^[0-9a-f]{32}$/);
    expect(asked[1]?.idempotencyKey).toBe(asked[0]?.idempotencyKey);
    fireEvent(screen.getByTestId("dialog-secret"), new Event("cancel", { cancelable: true }));
    expect(screen.getByTestId("secret")).toBeDefined();
    expect(screen.getByRole("button", { name: "Copy the key" })).toBeDefined();
    fireEvent.click(screen.getByTestId("secret-done"));
    expect(screen.queryByText("lodge-the-text")).toBeNull();
  });

  it("rotates and revokes after a question", async () => {
    serve(ALL);
    page("all", "keys");
    fireEvent.click(await screen.findByRole("button", { name: "Rotate laptop" }));
    fireEvent.change(screen.getByTestId("rotate-overlap"), { target: { value: "86400" } });
    fireEvent.click(screen.getByTestId("confirm"));
    await waitFor(() => expect(calls).toContainEqual(expect.objectContaining({ path: "/admin/keys/k1/rotate", body: { overlap: 86_400 } })));
    expect((await screen.findByTestId("secret")).textContent).toBe("lodge-the-new-text");
    fireEvent.click(screen.getByTestId("secret-done"));
    fireEvent.click(screen.getByRole("button", { name: "Revoke laptop" }));
    fireEvent.click(screen.getByTestId("confirm"));
    await waitFor(() => expect(calls.some((call) => call.method === "DELETE" && call.path === "/admin/keys/k1")).toBe(true));
    expect(screen.queryByRole("button", { name: "Revoke old" })).toBeNull();
  });

  it("disables a key for now", async () => {
    serve(ALL);
    page("all", "keys");
    fireEvent.click(await screen.findByRole("button", { name: "Disable laptop" }));
    await waitFor(() => expect(calls).toContainEqual(expect.objectContaining({ method: "PUT", path: "/admin/keys/k1/enabled", body: { enabled: false } })));
    cleanup();
    serve({ ...ALL, "GET /admin/keys": { keys: [{ ...key, disabled: true }] } });
    page("all", "keys");
    fireEvent.click(await screen.findByRole("button", { name: "Enable laptop" }));
    await waitFor(() => expect(calls).toContainEqual(expect.objectContaining({ body: { enabled: true } })));
    expect(screen.getByTestId("key-state").textContent).toBe("Disabled");
  });

  it("sets and removes budgets", async () => {
    serve(ALL);
    page("all", "budgets");
    fireEvent.click(screen.getByTestId("add-budget"));
    fireEvent.change(screen.getByTestId("budget-name"), { target: { value: "ann" } });
    fireEvent.change(screen.getByTestId("budget-dollars"), { target: { value: "5usd" } });
    expect(screen.getByTestId<HTMLButtonElement>("budget-save").disabled).toBe(true);
    fireEvent.change(screen.getByTestId("budget-dollars"), { target: { value: "9007199.254740993" } });
    fireEvent.click(screen.getByTestId("budget-save"));
    await waitFor(() => expect(calls).toContainEqual(expect.objectContaining({ method: "PUT", path: "/admin/budgets/user%3Aann/month", body: { limit: "9007199254740993" } })));
    fireEvent.click(await screen.findByRole("button", { name: /Change the budget user:ann/ }));
    expect(screen.queryByTestId("budget-name")).toBeNull();
    expect(screen.getByTestId<HTMLInputElement>("budget-dollars").value).toBe("20.00");
    fireEvent.change(screen.getByTestId("budget-dollars"), { target: { value: "30" } });
    fireEvent.click(screen.getByTestId("budget-save"));
    await waitFor(() => expect(calls).toContainEqual(expect.objectContaining({ method: "PUT", path: "/admin/budgets/user%3Aann/month", body: { limit: "30000000000" } })));
    fireEvent.click(await screen.findByRole("button", { name: /Remove the budget user:ann/ }));
    fireEvent.click(screen.getByTestId("confirm"));
    await waitFor(() => expect(calls.some((call) => call.method === "DELETE" && call.path === "/admin/budgets/user%3Aann/month")).toBe(true));
  });
});

describe("the fields of a key", () => {
  const fields = { ...EMPTY, user: "ann", models: "claude-*, gpt-5*", rpm: "60", window: "day" } as const;

  it("are a key or none", () => {
    expect(newKeyOf(fields)).toMatchObject({ models: ["claude-*", "gpt-5*"], rpm: 60, expires: 0, budgets: [] });
    expect(newKeyOf({ ...fields, expires: "2027-01-01" })?.expires).toBeGreaterThan(NOW / 1_000);
    expect(newKeyOf({ ...fields, user: "", parent: "key-1", denyModels: "*-max", notBefore: "2027-01-01" })).toMatchObject({ parent: "key-1", deny_models: ["*-max"], on_limit: "refuse" });
    for (const odd of [{ user: " " }, { tpm: "1.5" }, { concurrency: "x" }, { rpm: "-1" }, { rpm: "1.5" }, { rpm: "many" }, { dollars: "5usd" }]) expect(newKeyOf({ ...fields, ...odd })).toBeUndefined();
  });
});

describe("routes", () => {
  it("lead to usage", () => {
    expect([parseRoute("#/usage"), parseRoute("#/usage/all"), parseRoute("#/usage/all/audit"), parseRoute("#/usage/x").page, parseRoute("#/usage/all/x").page]).toEqual([
      { page: "usage", whose: "own", section: "usage" },
      { page: "usage", whose: "all", section: "usage" },
      { page: "usage", whose: "all", section: "audit" },
      "home",
      "home",
    ]);
  });
});
