import { act, cleanup, fireEvent, render, screen } from "@testing-library/react";
import axe from "axe-core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ClientContext } from "../app/context";
import { fakeEnvironment } from "../socket/testing";
import { Client } from "../state/client";
import { CAPABILITIES, info, model, SESSION } from "../state/testing";
import { Composer } from "./Composer";
import { OtherPart } from "./OtherPart";

const HASH = "ab".repeat(32);
const BLOB = { hash: HASH, media_type: "image/png", size: 3 };

/** Requests that wait until the test answers them. */
class FakeRequest {
  static all: FakeRequest[] = [];
  status = 0;
  responseText = "";
  aborted = false;
  sent: unknown;
  url = "";
  upload: { onprogress?: (event: { lengthComputable: boolean; loaded: number; total: number }) => void } = {};
  onload?: () => void;
  onabort?: () => void;
  constructor() {
    FakeRequest.all.push(this);
  }
  open(_method: string, url: string) {
    this.url = url;
  }
  setRequestHeader() {
    // Nobody looks.
  }
  send(body: unknown) {
    this.sent = body;
  }
  abort() {
    this.aborted = true;
    this.onabort?.();
  }
  answer(status: number, body: unknown) {
    this.status = status;
    this.responseText = JSON.stringify(body);
    return act(async () => {
      this.onload?.();
      await Promise.resolve();
    });
  }
}

beforeEach(() => {
  FakeRequest.all = [];
  localStorage.clear();
  vi.stubGlobal("XMLHttpRequest", FakeRequest);
  vi.stubGlobal("matchMedia", () => ({ matches: false }));
  URL.createObjectURL = () => "blob:here";
  URL.revokeObjectURL = vi.fn();
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

const png = (name = "a.png") => new File(["abc"], name, { type: "image/png" });

function composer(images = true) {
  const client = new Client(fakeEnvironment());
  const prompt = vi.spyOn(client, "prompt").mockImplementation(() => undefined);
  const at = model({ session: info({ status: "idle" }), capabilities: { ...CAPABILITIES, images } });
  const page = render(
    <ClientContext value={client}>
      <Composer model={at} sessionId={SESSION} />
    </ClientContext>,
  );
  return { prompt, page };
}

const choose = (...files: File[]) => fireEvent.change(screen.getByTestId("image-input"), { target: { files } });
const sendButton = () => screen.getByTestId<HTMLButtonElement>("send");
const clipboard = (files: File[], types: string[]) => ({ clipboardData: { files, types } });

describe("images in the composer", () => {
  it("are sent to the server first, then named by the message", async () => {
    const { prompt, page } = composer();
    choose(png());
    expect(screen.getByRole("img", { name: "a.png" }).getAttribute("src")).toBe("blob:here");
    const [request] = FakeRequest.all;
    expect(request?.url).toBe("/api/v1/blobs");
    act(() => request!.upload.onprogress?.({ lengthComputable: true, loaded: 1, total: 4 }));
    expect(screen.getByRole<HTMLProgressElement>("progressbar", { name: "Sending a.png" }).value).toBe(0.25);
    expect(sendButton().disabled).toBe(true);
    expect(screen.getByText("An image is still being sent.")).toBeDefined();
    await request!.answer(200, BLOB);
    expect(screen.queryByRole("progressbar")).toBeNull();
    expect((await axe.run(page.container)).violations).toEqual([]);
    fireEvent.click(sendButton());
    expect(prompt).toHaveBeenCalledWith(SESSION, "prompt", "", [{ ...BLOB, name: "a.png" }]);
    expect(screen.queryByTestId("draft-image")).toBeNull();
  });

  it("are taken from the clipboard, unless text is there too, and where they are dropped", () => {
    composer();
    const field = screen.getByTestId("composer");
    fireEvent.paste(field, clipboard([png()], ["text/plain", "Files"]));
    expect(FakeRequest.all).toHaveLength(0);
    fireEvent.paste(field, clipboard([png()], ["text/html", "Files"]));
    expect(FakeRequest.all).toHaveLength(1);
    fireEvent.drop(field, { dataTransfer: { files: [png("b.png")], types: ["Files"] } });
    expect(screen.getByRole("img", { name: "b.png" })).toBeDefined();
    fireEvent.click(screen.getByRole("button", { name: "Remove b.png" }));
    expect(FakeRequest.all[1]?.aborted).toBe(true);
    expect(screen.queryByRole("img", { name: "b.png" })).toBeNull();
  });

  it("that cannot be sent say why, and hold the message back until they are removed", async () => {
    composer();
    fireEvent.change(screen.getByTestId("composer"), { target: { value: "hi" } });
    choose(new File(["x"], "x.svg", { type: "image/svg+xml" }));
    expect(screen.getByRole("alert").textContent).toMatch(/x\.svg.*Only PNG/);
    expect(sendButton().disabled).toBe(true);
    fireEvent.click(screen.getByRole("button", { name: "Remove x.svg" }));
    expect(sendButton().disabled).toBe(false);
    choose(png());
    await FakeRequest.all[0]!.answer(507, { error: { code: "limit_exceeded", message: "there is no room" } });
    expect(screen.getByRole("alert").textContent).toContain("there is no room");
  });

  it("survive a reload with the draft once the server has them", async () => {
    const { page } = composer();
    choose(png());
    await FakeRequest.all[0]!.answer(200, BLOB);
    page.unmount();
    composer();
    expect(screen.getByRole("img", { name: "a.png" }).getAttribute("src")).toBe(`/api/v1/blobs/${HASH}`);
    expect(sendButton().disabled).toBe(false);
  });

  it("are absent where the session takes none", () => {
    composer(false);
    expect(screen.queryByTestId("add-images")).toBeNull();
    fireEvent.paste(screen.getByTestId("composer"), clipboard([png()], ["Files"]));
    fireEvent.drop(screen.getByTestId("composer"), { dataTransfer: { files: [png()], types: ["Files"] } });
    expect(FakeRequest.all).toHaveLength(0);
  });
});

describe("images of the transcript", () => {
  it("come from the server, and say so where they are lost", () => {
    render(<OtherPart part={{ type: "image", blob: { ...BLOB, name: "a.png" } }} />);
    const image = screen.getByRole("img", { name: "a.png" });
    expect(image.getAttribute("src")).toBe(`/api/v1/blobs/${HASH}`);
    fireEvent.error(image);
    expect(screen.getByTestId("image-lost").textContent).toContain("a.png");
  });

  it("of a kind that no server would take are not loaded", () => {
    render(<OtherPart part={{ type: "image", blob: { ...BLOB, media_type: "image/svg+xml" } }} />);
    expect(screen.queryByRole("img")).toBeNull();
  });
});
