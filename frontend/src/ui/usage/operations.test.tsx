import { act, cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../../app/context";
import type { Section } from "../../app/route";
import { fakeEnvironment } from "../../socket/testing";
import { Client } from "../../state/client";
import { ErrorNote } from "../OtherPart";
import { readAccounts, readAudit, readRequests } from "./operations";
import { UsagePage } from "./UsagePage";

const NOW = Date.parse("2026-11-20T15:00:00Z");

interface Call {
  readonly method: string;
  readonly path: string;
}

let calls: Call[] = [];
let answers: Record<string, unknown> = {};

const live = { id: "7", at: NOW / 1_000 - 75, key: "key-1", session: "", user: "ann", provider: "anthropic", model: "claude", reserved: "2000000000", cost: "1000000" };

const entry = (serial: number) => ({
  serial,
  at: NOW,
  actor: serial % 2 === 0 ? "ann" : "",
  uid: 1000,
  action: "budget.set",
  target: `user:u${serial}`,
  detail: { window: "day", limit: "$5.00", parent: "", budgets: [] },
  outcome: serial === 3 ? "PermissionDenied" : "ok",
  result: "",
});

const ACCOUNTS = {
  accounts: [
    { provider: "anthropic", account: "default", state: "well", told_at: NOW, windows: [{ name: "tokens", limit: 1_000, remaining: 250, resets_at: NOW + 60_000, status: "" }] },
    { provider: "anthropic", account: "team", state: "limited", paused_until: NOW + 90_000, windows: [] },
  ],
};

function page(section: Section, whose: "own" | "all" = "all") {
  const client = new Client(fakeEnvironment());
  return render(
    <ClientContext value={client}>
      <UsagePage whose={whose} section={section} onMenu={() => undefined} />
    </ClientContext>,
  );
}

/** Hides the page, or shows it again. */
function show(state: "visible" | "hidden") {
  vi.spyOn(document, "visibilityState", "get").mockReturnValue(state);
  document.dispatchEvent(new Event("visibilitychange"));
}

beforeEach(() => {
  calls = [];
  answers = { "GET /me": { administrator: true } };
  vi.useFakeTimers({ now: NOW, toFake: ["Date"] });
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    const path = url.replace("/api/v1", "");
    const method = init.method ?? "GET";
    calls.push({ method, path });
    const answer = answers[`${method} ${path}`] ?? answers[`${method} ${path.split("?")[0] ?? ""}`];
    if (answer === undefined) return Promise.resolve(new Response(null, { status: 204 }));
    const failed = typeof answer === "object" && answer !== null && "error" in answer;
    return Promise.resolve(new Response(JSON.stringify(answer), { status: failed ? 400 : 200 }));
  });
});

afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

const asked = (path: string) => calls.filter((call) => call.method === "GET" && call.path === path).length;

describe("requests under way", () => {
  it("are listed and ended after a question", async () => {
    answers["GET /admin/requests"] = { requests: [live] };
    page("requests");
    const row = await screen.findByTestId("request");
    expect(within(row).getAllByRole("cell").map((cell) => cell.textContent)).toEqual(["key-1", "ann", "1 min 15 s", "$0.001", "$2.00", "End"]);
    fireEvent.click(within(row).getByRole("button", { name: "End the request 7 to anthropic/claude" }));
    expect(calls.some((call) => call.method === "DELETE")).toBe(false);
    answers["GET /admin/requests"] = { requests: [] };
    fireEvent.click(screen.getByTestId("confirm"));
    await screen.findByTestId("no-requests");
    expect(calls).toContainEqual({ method: "DELETE", path: "/admin/requests/7" });
  });

  it("are asked for again while somebody looks, and not otherwise", async () => {
    vi.useRealTimers();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    answers["GET /admin/requests"] = { requests: [] };
    page("requests");
    await vi.waitFor(() => expect(asked("/admin/requests")).toBe(1));
    await act(() => vi.advanceTimersByTimeAsync(2_000));
    expect(asked("/admin/requests")).toBe(2);
    show("hidden");
    await act(() => vi.advanceTimersByTimeAsync(60_000));
    expect(asked("/admin/requests")).toBe(2);
    await act(async () => {
      show("visible");
      await vi.advanceTimersByTimeAsync(0);
    });
    expect(asked("/admin/requests")).toBe(3);
  });

  it("of one's own are ended as one's own", async () => {
    Object.assign(answers, { "GET /me": { administrator: false }, "GET /requests": { requests: [live] } });
    page("usage", "own");
    fireEvent.click(await screen.findByRole("button", { name: /End the request 7/ }));
    fireEvent.click(screen.getByTestId("confirm"));
    await waitFor(() => expect(calls).toContainEqual({ method: "DELETE", path: "/requests/7" }));
    expect(calls.some((call) => call.path.startsWith("/admin"))).toBe(false);
  });
});

describe("the audit", () => {
  it("is read page by page, and searched", async () => {
    answers["GET /admin/audit?search=&before=0&limit=50"] = { entries: [entry(4), entry(3)], next: 3 };
    answers["GET /admin/audit?search=&before=3&limit=50"] = { entries: [entry(2)] };
    answers["GET /admin/audit?search=u%26x&before=0&limit=50"] = { entries: [] };
    page("audit");
    expect(await screen.findAllByTestId("audit-entry")).toHaveLength(2);
    const [first, second] = screen.getAllByTestId("audit-entry").map((row) => row.textContent);
    expect(first).toMatch(/ann.*budget\.set.*user:u4.*window.*day.*limit.*\$5\.00.*Done/);
    expect(first).not.toContain("parent");
    expect(second).toMatch(/uid 1000.*Refused: PermissionDenied/);
    fireEvent.click(screen.getByTestId("audit-more"));
    await waitFor(() => expect(screen.getAllByTestId("audit-entry")).toHaveLength(3));
    expect(screen.queryByTestId("audit-more")).toBeNull();
    fireEvent.change(screen.getByTestId("audit-search"), { target: { value: " u&x " } });
    fireEvent.click(screen.getByTestId("audit-search-go"));
    await screen.findByText("No entry has this text.");
  });
});

describe("accounts", () => {
  beforeEach(() => {
    answers["GET /admin/quota"] = ACCOUNTS;
    answers["GET /admin/gateway/health"] = { version: "1.2", open_leases: 1, address: "127.0.0.1:9" };
  });

  it("say how they are, and what is left", async () => {
    page("accounts");
    const [own, team] = await screen.findAllByTestId("account");
    if (!own || !team) throw new Error("there are two");
    expect(own.textContent).toMatch(/anthropicWell.*tokens.*250 of 1,000 left, full again/);
    expect(within(own).getByRole("progressbar").getAttribute("aria-valuenow")).toBe("75");
    expect(team.textContent).toMatch(/anthropic\/teamLimited.*asked to slow down.*Left alone for 90 s/);
    expect(screen.getByTestId("gateway-health").textContent).toBe("Version 1.2 serves one session; keys of people are accepted at 127.0.0.1:9.");
  });

  it("are tested, once a provider", async () => {
    answers["POST /admin/providers/anthropic/test"] = {
      accounts: [
        { account: "default", ok: true, milliseconds: 40 },
        { account: "team", ok: false, message: "the provider does not know this key" },
      ],
    };
    page("accounts");
    fireEvent.click(await screen.findByTestId("test-accounts"));
    await waitFor(() => expect(screen.getAllByTestId("account-test").map((test) => test.textContent)).toEqual(["The test went well: it works, answered in 40 ms", "The test failed: the provider does not know this key"]));
    expect(calls.filter((call) => call.method === "POST")).toHaveLength(1);
  });

  it("have a configuration that can be read again, and says what is wrong with it", async () => {
    answers["GET /admin/gateway/health"] = { version: "1", open_leases: 0, config_error: "lodge.toml:3: `knid`" };
    page("accounts");
    await screen.findByText("lodge.toml:3: `knid`");
    answers["GET /admin/gateway/health"] = { version: "1", open_leases: 0 };
    answers["POST /admin/gateway/reload"] = { error: { code: "invalid_argument", message: "lodge.toml:4: `kidn`" } };
    fireEvent.click(screen.getByTestId("reload-config"));
    await screen.findByText("lodge.toml:4: `kidn`");
    answers["POST /admin/gateway/reload"] = { needs_restart: ["egress"] };
    fireEvent.click(screen.getByTestId("reload-config"));
    await waitFor(() => expect(screen.getByTestId("reload-outcome").textContent).toContain("egress"));
    expect(screen.queryByText(/lodge.toml/)).toBeNull();
  });
});

describe("reading", () => {
  it("survives answers that are none", () => {
    for (const odd of [undefined, null, 5, "x", [], { requests: 5, entries: "x", accounts: [null] }]) {
      expect(Array.isArray(readRequests(odd))).toBe(true);
      expect(readAudit(odd).entries).toHaveLength(0);
      expect(Array.isArray(readAccounts(odd))).toBe(true);
    }
  });
});

describe("a budget that is used up", () => {
  it("leads to where it is seen", () => {
    render(<ErrorNote code="budget_exceeded" message="the model provider answered 402: the daily budget of the user `ann` is $5.00" />);
    // It is Lodge that says so.
    expect(screen.getByText("The daily budget of the user `ann` is $5.00")).toBeDefined();
    expect(screen.getByTestId("see-budgets").getAttribute("href")).toBe("#/usage");
    cleanup();
    render(<ErrorNote code="rate_limited" message="later" />);
    expect(screen.queryByTestId("see-budgets")).toBeNull();
  });

  it("is told apart from a provider's bill and from a request that was ended", () => {
    render(<ErrorNote code="budget_exceeded" message="the model provider answered 402: insufficient balance" />);
    expect(screen.getByText("the model provider answered 402: insufficient balance")).toBeDefined();
    cleanup();
    render(<ErrorNote code="provider_error" message="the model provider answered 400: this request was ended by hand, in Lodge's list" />);
    expect(screen.getByText("Ended by hand")).toBeDefined();
    expect(screen.queryByText(/provider’s key/)).toBeNull();
  });
});
