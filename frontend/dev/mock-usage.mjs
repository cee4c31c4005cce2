// Usage, budgets and keys of the mock server: the same every time, but for the days, which end today.
const DAY = 86_400;
const DOLLAR = 1_000_000_000;

const keys = [
  { id: "k1", name: "laptop", user: "robin", models: ["claude-*"], rpm: 60, expires: 0, created: 1_790_000_000, revoked: false },
  { id: "k2", name: "build server", user: "sam", models: [], rpm: 0, expires: 1_830_000_000, created: 1_780_000_000, revoked: false },
  { id: "k3", name: "lost", user: "robin", models: [], rpm: 0, expires: 0, created: 1_770_000_000, revoked: true },
];

let budgets = [
  { scope: "user:robin", window: "month", limit: 20, spent: 12.345678, reserved: 0.25 },
  { scope: "user:robin", window: "day", limit: 2, spent: 1.95, reserved: 0 },
  { scope: "user:sam", window: "total", limit: 100, spent: 41.5, reserved: 0 },
];

const row = (name, dollars, requests) => ({
  name,
  requests,
  inexact: requests > 40 ? 1 : 0,
  unpriced: 0,
  input_tokens: requests * 9_000,
  cache_read_tokens: requests * 20_000,
  cache_write_tokens: requests * 900,
  output_tokens: requests * 1_200,
  reasoning_tokens: requests * 300,
  cost: String(Math.round(dollars * DOLLAR)),
});

function days(since) {
  const today = Math.floor(Date.now() / 1_000 / DAY);
  const first = since > 0 ? Math.floor(since / DAY) : today - 120;
  return Array.from({ length: today - first + 1 }, (_, index) => first + index)
    .filter((day) => day % 7 !== 3)
    .map((day) => {
      const much = ((day * 37) % 23) + 1;
      return row(new Date(day * DAY * 1_000).toISOString().slice(0, 10), much * 0.083123, much * 2);
    });
}

const GROUPS = {
  model: () => [row("anthropic/claude-sonnet-5-5", 18.402311, 210), row("openai/gpt-5.6-terra", 6.1, 90), row("demo/demo", 0, 44)],
  session: () => [row("", 3.2, 20), row("0191a0b0-0000-7000-8000-000000000001", 2.25, 31)],
  user: () => [row("robin", 15.4, 200), row("sam", 8.9, 120), row("1000", 0.2, 24)],
};

const MODELS = [
  { id: "anthropic/claude-sonnet-5-5", context_window: 1_000_000 },
  { id: "openai/gpt-5.6-terra", context_window: 400_000 },
  { id: "local/unheard-of" },
];

const PRICES = [
  { provider: "anthropic", model: "claude-sonnet-5-5", source: "genai-prices", input: "3000000000", output: "15000000000" },
  { provider: "openai", model: "gpt-5.6-terra", source: "genai-prices", input: "1250000000", output: "10000000000" },
];

let live = [
  { id: "811", age: 94, key: "", session: "0191a0b0-0000-7000-8000-000000000001", user: "1000", provider: "anthropic", model: "claude-sonnet-5-5", reserved: 0.41, cost: 0.062 },
  { id: "815", age: 4, key: "k2", session: "", user: "sam", provider: "openai", model: "gpt-5.6-terra", reserved: 0.12, cost: 0 },
];

const ACTIONS = [
  { actor: "me", action: "budget.set", target: "user:robin", detail: { window: "month", limit: "$20.00" }, outcome: "ok", result: "" },
  { actor: "", uid: 1000, action: "key.create", target: "user:sam", detail: { name: "build server", rpm: 60 }, outcome: "ok", result: "k2" },
  { actor: "me", action: "provider.key.set", target: "(not a name)", detail: { kind: "anthropic" }, outcome: "InvalidArgument", result: "" },
  { actor: "me", action: "request.cancel", target: "request:807", detail: { user: "sam", key: "k2", model: "gpt-5.6-terra" }, outcome: "ok", result: "" },
];

function audit(query) {
  const [before, search] = [Number(query.get("before") ?? 0) || 131, (query.get("search") ?? "").toLowerCase()];
  const serials = Array.from({ length: before - 1 }, (_, index) => before - 1 - index);
  const entries = serials.map((serial) => ({ ...ACTIONS[serial % ACTIONS.length], serial, at: Date.now() - (131 - serial) * 3_600_000 }));
  const found = entries.filter((entry) => JSON.stringify(entry).toLowerCase().includes(search)).slice(0, 50);
  return { entries: found, next: found.length === 50 ? found.at(-1).serial : undefined };
}

const quota = () => ({
  accounts: [
    {
      provider: "anthropic",
      account: "default",
      state: "well",
      told_at: Date.now(),
      windows: [
        { name: "requests", limit: 4_000, remaining: 3_120, resets_at: Date.now() + 40_000, status: "" },
        { name: "input-tokens", limit: 400_000, remaining: 21_000, resets_at: Date.now() + 55_000, status: "" },
        { name: "unified-5h", used_percent: 61, resets_at: Date.now() + 7_200_000, status: "allowed" },
      ],
    },
    { provider: "anthropic", account: "team", state: "limited", paused_until: Date.now() + 95_000, windows: [] },
    { provider: "openai", account: "default", state: "refused", paused_until: Date.now() + 40_000, windows: [] },
  ],
});

const nano = (dollars) => String(Math.round(dollars * DOLLAR));

function shownBudget({ scope, window, limit, spent, reserved }) {
  const left = Math.max(limit - spent - reserved, 0);
  const resets_at = window === "total" ? undefined : (Math.floor(Date.now() / 1_000 / DAY) + 1) * DAY;
  return { scope, window, limit: nano(limit), spent: nano(spent), reserved: nano(reserved), left: nano(left), resets_at };
}

function usage(query) {
  const by = query.get("by");
  return { rows: by === "day" ? days(Number(query.get("since"))) : (GROUPS[by]?.() ?? []) };
}

const made = (id) => ({ key: { id }, secret: `lodge-key-${id}-3f9a1c5e7b2d4860a1f3c5e7092b4d6f` });

/** The answer of a path, as status and body; `undefined` where there is none. */
export function usageAnswer(method, url, body) {
  const path = url.pathname.replace("/api/v1", "");
  const admin = path.startsWith("/admin");
  const [, id, action] = /^\/admin\/keys\/([^/]+)(\/rotate)?$/.exec(path) ?? [];
  const [, scope, window] = /^\/admin\/budgets\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
  if (path === "/me") return [200, { account: "me", name: "Robin", rights: "own", administrator: true }];
  if (path === "/models") return [200, { models: MODELS }];
  if (path === "/prices") return [200, { prices: PRICES }];
  if (path.endsWith("/usage")) return [200, usage(url.searchParams)];
  if (method === "GET" && path.endsWith("/budgets")) {
    return [200, { budgets: budgets.filter((budget) => admin || budget.scope === "user:robin").map(shownBudget) }];
  }
  if (method === "GET" && path.endsWith("/keys")) return [200, { keys: keys.filter((key) => admin || key.user === "robin") }];
  if (method === "POST" && path === "/admin/keys") {
    const key = { rpm: 0, expires: 0, ...body, id: `k${keys.length + 1}`, created: Math.floor(Date.now() / 1_000), revoked: false };
    keys.push(key);
    return [200, made(key.id)];
  }
  if (id && action) return [200, made(id)];
  if (id && method === "DELETE") {
    for (const key of keys) key.revoked ||= key.id === id;
    return [204];
  }
  const [, toEnable] = /^\/admin\/keys\/([^/]+)\/enabled$/.exec(path) ?? [];
  if (toEnable) {
    for (const key of keys) if (key.id === toEnable) key.disabled = !body.enabled;
    return [204];
  }
  if (method === "GET" && path.endsWith("/requests")) {
    const shown = live.filter((request) => admin || request.user === "1000");
    const now = Math.floor(Date.now() / 1_000);
    return [200, { requests: shown.map(({ age, ...request }) => ({ ...request, at: now - age, reserved: nano(request.reserved), cost: nano(request.cost) })) }];
  }
  if (method === "DELETE" && path.includes("/requests/")) {
    live = live.filter((request) => !path.endsWith(`/${request.id}`));
    return [204];
  }
  if (path === "/admin/audit") return [200, audit(url.searchParams)];
  if (path === "/admin/quota") return [200, quota()];
  if (path === "/admin/gateway/health") return [200, { version: "0.1.0", open_leases: 3, address: "127.0.0.1:8420", paused: [] }];
  if (path === "/admin/gateway/reload") return [200, { needs_restart: [] }];
  if (path.endsWith("/test")) return [200, { accounts: [{ account: "default", ok: true, status: 200, message: "", milliseconds: 120 }] }];
  if (scope) {
    budgets = budgets.filter((budget) => budget.scope !== decodeURIComponent(scope) || budget.window !== window);
    if (method === "PUT") budgets.push({ scope: decodeURIComponent(scope), window, limit: Number(body.limit) / DOLLAR, spent: 0, reserved: 0 });
    return [204];
  }
  return undefined;
}
