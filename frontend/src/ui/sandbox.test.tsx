import { cleanup, fireEvent, render, screen, within } from "@testing-library/react";
import { useState } from "react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import { defaultWalls, rightsOf, wallsProblem, withProfile } from "../lib/sandbox";
import type { InputRequest, SandboxChoices, SeenFinding } from "../protocol/generated";
import { fakeEnvironment } from "../socket/testing";
import { Client } from "../state/client";
import { info, SESSION } from "../state/testing";
import { Findings } from "./Findings";
import { NewSessionDialog } from "./NewSessionDialog";
import { ErrorNote } from "./OtherPart";
import { RequestDialog } from "./RequestDialog";
import { SandboxBadge } from "./SandboxBadge";
import { SandboxPicker } from "./SandboxPicker";

afterEach(cleanup);
beforeEach(() => localStorage.clear());

const CHOICES: SandboxChoices = {
  tiers: [
    { tier: "process", usable: true },
    { tier: "container", usable: false, problem: "No engine answers.", mend: "systemctl --user start podman.socket" },
    { tier: "microvm", usable: true, notice: "No KVM: emulated, slow." },
  ],
  profiles: [
    { name: "development", tier: "process", network: "broker", summary: "The usual." },
    { name: "strict", tier: "container", network: "none", summary: "Little." },
  ],
  default_tier: "process",
  default_profile: "development",
};

/** A client whose commands are answered from a table. */
function withClient(answers: Record<string, unknown>, children: React.ReactNode) {
  const client = new Client(fakeEnvironment());
  const send = vi.spyOn(client, "send").mockImplementation((body) => Promise.resolve(answers[body.cmd]));
  const view = render(<ClientContext value={client}>{children}</ClientContext>);
  return { client, send, ...view };
}

describe("choosing the walls", () => {
  function Picker() {
    const [walls, setWalls] = useState(defaultWalls(CHOICES));
    return (
      <>
        <SandboxPicker choices={CHOICES} value={walls} onChange={setWalls} />
        <output>{wallsProblem(CHOICES, walls)}</output>
      </>
    );
  }

  it("offers what works, and says what mends the rest", () => {
    render(<Picker />);
    expect(screen.getByTestId<HTMLInputElement>("tier-container").disabled).toBe(true);
    expect(screen.getByTestId("tier-problem-container").textContent).toContain("systemctl --user start podman.socket");
    expect(screen.getByTestId("tier-notice-microvm").textContent).toContain("emulated");
    fireEvent.click(screen.getByTestId("tier-microvm"));
    expect(screen.getByTestId<HTMLInputElement>("tier-microvm").checked).toBe(true);
    expect(screen.getByRole("status").textContent).toBe("");
  });

  it("never weakens a profile by itself: its tier stays chosen although it cannot be had", () => {
    render(<Picker />);
    fireEvent.click(screen.getByTestId("profile-strict"));
    expect(screen.getByTestId<HTMLInputElement>("tier-container").checked).toBe(true);
    expect(screen.getByRole("status").textContent).toMatch(/container tier cannot be used/);
    expect(withProfile(CHOICES, { tier: "microvm", profile: "x" }, "development")).toEqual({ tier: "process", profile: "development" });
  });

  it("asks for tier and profile when the session is made, and for none that cannot start", async () => {
    const { send } = withClient(
      {
        "harness.list": { harnesses: [{ name: "pi", title: "pi", description: "", installed: true, version: "1" }] },
        "workspace.list": { workspaces: [{ path: "/w/p", name: "p", sessions: [] }] },
        "sandbox.list": CHOICES,
        "session.create": info(),
      },
      <NewSessionDialog onClose={() => undefined} />,
    );
    const start = await screen.findByTestId<HTMLButtonElement>("create-session");
    fireEvent.click(screen.getByTestId("profile-strict"));
    expect(start.disabled).toBe(true);
    expect(screen.getByTestId("walls-problem")).toBeDefined();
    fireEvent.click(screen.getByTestId("tier-microvm"));
    fireEvent.click(start);
    await vi.waitFor(() => expect(send).toHaveBeenCalledWith({ cmd: "session.create", harness: "pi", workspace: "/w/p", tier: "microvm", profile: "strict" }));
  });
});

describe("what the agent may do", () => {
  it("is told for the session's own tier and profile", async () => {
    withClient({ "sandbox.list": CHOICES }, <SandboxBadge info={info({ tier: "microvm", profile: "strict" })} />);
    const badge = screen.getByTestId("sandbox-badge");
    expect(badge.textContent).toContain("MicroVM · strict");
    fireEvent.click(badge);
    const dialog = screen.getByTestId("dialog-sandbox");
    await within(dialog).findByText(/Little/);
    expect(dialog.textContent).toContain("Reach the network.");
    expect(dialog.textContent).toContain("emulated");
  });

  it("promises no more than the profile keeps", () => {
    expect(rightsOf("process", "minimal", "broker").may.join()).toContain("home folder");
    expect(rightsOf("process", "minimal", "broker").mayNot.join()).not.toContain("See or change files outside");
    expect(rightsOf("container", "strict", "none").may.join()).not.toContain("broker");
    expect(rightsOf("process", "development", "broker").rests).toContain("shares this machine’s kernel");
  });
});

describe("a question of the network", () => {
  const request: InputRequest = {
    id: "r1", title: "Connect?", kind: "permission", tool: "network", arguments: { host: "files.example.org", port: 443 },
    choices: ["once", "session", "deny"],
  };

  it.each(["once", "session", "deny"] as const)("is answered with %s", (choice) => {
    const { send } = withClient({}, <RequestDialog request={request} sessionId={SESSION} onLater={() => undefined} />);
    expect(screen.getByTestId("network-destination").textContent).toContain("files.example.org");
    fireEvent.click(screen.getByTestId(`permission-${choice}`));
    expect(send).toHaveBeenCalledWith({ cmd: "input_response", request_id: "r1", answer: { answer: "permission", choice } }, SESSION);
  });

  it("shows a host without tricks of writing direction", () => {
    const tricky = { ...request, arguments: { host: "a\u202egro.elpmaxe", port: 8 } };
    withClient({}, <RequestDialog request={tricky} sessionId={SESSION} onLater={() => undefined} />);
    expect(screen.getByTestId("network-destination").textContent).not.toContain("\u202e");
  });
});

describe("Findings", () => {
  const found = (path: string, at: number): SeenFinding => ({ kind: "hook", path, detail: "new\u001b[2J", at });

  it("lists them with an explanation, without what a terminal would act on", () => {
    render(<Findings findings={[found(".git/hooks/pre-commit", 5)]} cut={false} sessionId={SESSION} />);
    fireEvent.click(screen.getByTestId("findings-show"));
    expect(screen.getByTestId("findings-hook").textContent).toContain("Git runs it");
    expect(screen.getByTestId("finding").textContent).toBe(".git/hooks/pre-commit new");
  });

  it("stay away over a reload once dismissed, but come back when a turn finds them again", () => {
    const first = [found("a", 5)];
    const view = render(<Findings findings={first} cut={false} sessionId={SESSION} />);
    fireEvent.click(screen.getByTestId("findings-dismiss"));
    expect(screen.queryByTestId("findings")).toBeNull();
    view.unmount();
    const again = render(<Findings findings={first} cut={false} sessionId={SESSION} />);
    expect(screen.queryByTestId("findings")).toBeNull();
    again.rerender(<Findings findings={[found("a", 9)]} cut={false} sessionId={SESSION} />);
    expect(screen.getByTestId("findings").dataset.count).toBe("1");
  });
});

describe("a crossed limit", () => {
  it("names its key and what was found", () => {
    render(<ErrorNote code="limit_exceeded" message="ended" details={{ key: "limits.memory", allowed: "2 GiB", found: "2.1 GiB" }} />);
    expect(screen.getByTestId("limit-details").textContent).toBe("Limitlimits.memoryAllowed2 GiBFound2.1 GiB");
  });

  it("is told as well where the details are of another kind", () => {
    render(<ErrorNote code="limit_exceeded" message="ended" details={"no object"} />);
    expect(screen.queryByTestId("limit-details")).toBeNull();
  });
});
