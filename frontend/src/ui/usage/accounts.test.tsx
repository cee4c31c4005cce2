import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../../app/context";
import { fakeEnvironment } from "../../socket/testing";
import { Client } from "../../state/client";
import { Accounts } from "./Accounts";
import { readSetup } from "./setup";

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

let calls: Call[] = [];

const SETUP = {
  providers: [{ name: "anthropic" }, { name: "mine" }],
  accounts: [
    { provider: "anthropic", account: "default", disabled: false, origin: "file" },
    { provider: "anthropic", account: "team", disabled: true, origin: "api" },
    { provider: "anthropic", account: "team", disabled: false, origin: "api", shadowed: true },
  ],
  aliases: [{ provider: "anthropic", name: "fast", targets: ["anthropic/m", "mine/n"], origin: "api" }],
};

const QUOTA = {
  accounts: [
    { provider: "anthropic", account: "default", state: "well", windows: [] },
    { provider: "anthropic", account: "team", state: "disabled", windows: [] },
  ],
};

const ANSWERS: Readonly<Record<string, unknown>> = { "GET /admin/setup": SETUP, "GET /admin/quota": QUOTA, "GET /admin/gateway/health": {} };

const changes = () => calls.filter((call) => call.method !== "GET").map((call) => `${call.method} ${call.path} ${call.body}`.trim());

beforeEach(() => {
  calls = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    const path = url.replace("/api/v1", "");
    const method = init.method ?? "GET";
    calls.push({ method, path, body: typeof init.body === "string" ? init.body : "" });
    const answer = ANSWERS[`${method} ${path}`];
    if (answer === undefined) return Promise.resolve(new Response(null, { status: 204 }));
    return Promise.resolve(new Response(JSON.stringify(answer), { status: 200 }));
  });
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function page() {
  render(
    <ClientContext value={new Client(fakeEnvironment())}>
      <Accounts />
    </ClientContext>,
  );
}

async function item(name: string) {
  await screen.findByText("anthropic/fast");
  const found = screen.getAllByTestId("account").find((element) => element.dataset.account === name);
  if (!found) throw new Error(`there is no ${name}`);
  return within(found);
}

describe("what is set up", () => {
  it("is read leniently, without what waits behind the file", () => {
    expect(readSetup(SETUP).accounts.map((account) => [account.account, account.disabled, account.isOfFile])).toEqual([
      ["default", false, true],
      ["team", true, false],
    ]);
    for (const odd of [undefined, null, 5, "x", [], { accounts: 5, aliases: [null] }]) expect(() => readSetup(odd)).not.toThrow();
  });

  it("shows accounts of the file without buttons, and what aliases stand for", async () => {
    page();
    const own = await item("anthropic");
    expect(own.getByText("In lodge.toml")).toBeTruthy();
    expect(own.queryByTestId("account-enable")).toBeNull();
    expect(screen.getByTestId("alias").textContent).toContain("anthropic/m, then mine/n");
  });

  it("uses an account again, and removes it after a question", async () => {
    page();
    const team = await item("anthropic/team");
    expect(team.getByTestId("account-state").textContent).toBe("Out of use");
    fireEvent.click(team.getByTestId("account-enable"));
    await waitFor(() => expect(changes()).toEqual(['PUT /admin/providers/anthropic/accounts/team/enabled {"enabled":true}']));
    fireEvent.click(team.getByTestId("account-remove"));
    expect(changes()).toHaveLength(1);
    fireEvent.click(screen.getByTestId("confirm"));
    await waitFor(() => expect(changes()[1]).toBe("DELETE /admin/providers/anthropic/accounts/team"));
  });
});
