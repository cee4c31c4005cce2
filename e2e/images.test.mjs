/** Images in prompts: pasted, dropped and chosen, shown in the transcript, seen by the model through the real agent. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { crc32, deflateSync } from "node:zlib";
import { after, afterEach, before, describe, it } from "node:test";
import { LodgePage, launch } from "./lib/browser.mjs";
import { Lodge, eventually } from "./lib/lodge.mjs";

/** A PNG with a gradient of one colour. */
function png(width, height, [red, green, blue]) {
  const rows = Array.from({ length: height }, (_, y) => {
    const row = Buffer.alloc(1 + width * 3);
    for (let x = 0; x < width; x += 1) {
      const share = (x + y) / (width + height);
      row.set([red, green, blue].map((value) => Math.round(value * share)), 1 + x * 3);
    }
    return row;
  });
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const framed = Buffer.alloc(body.length + 8);
    framed.writeUInt32BE(data.length);
    body.copy(framed, 4);
    framed.writeUInt32BE(crc32(body), body.length + 4);
    return framed;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 2], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", deflateSync(Buffer.concat(rows))), chunk("IEND", Buffer.alloc(0))]);
}

const RED = png(96, 64, [220, 60, 40]);
const BLUE = png(120, 60, [40, 90, 220]);
const GREEN = png(64, 64, [40, 180, 90]);
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

describe("images in prompts", () => {
  let lodge, browser, page;

  before(async () => {
    lodge = await Lodge.start();
    browser = await launch();
    page = await LodgePage.open(browser);
    await page.login(lodge.link);
    await page.newSession("images");
    // What its harness can do is known when it has started.
    await page.at("add-images").waitFor();
  });

  after(async () => {
    await browser?.close();
    await lodge?.stop();
  });

  afterEach(() => assert.deepEqual(page.complaints, []));

  /** What the system does when an image is pasted into an element or dropped on it. */
  const give = (how, bytes, name) =>
    page.at("composer").evaluate(
      (field, [event, data, file]) => {
        const transfer = new DataTransfer();
        const content = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
        transfer.items.add(new File([content], file, { type: "image/png" }));
        const init = { bubbles: true, cancelable: true };
        const given =
          event === "paste"
            ? new ClipboardEvent("paste", { ...init, clipboardData: transfer })
            : new DragEvent("drop", { ...init, dataTransfer: transfer });
        if (field.dispatchEvent(given)) throw new Error("the page leaves it to the browser");
      },
      [how, bytes.toString("base64"), name],
    );

  const ready = (count) =>
    eventually(`${count} images are ready`, async () => (await page.page.locator('[data-testid=draft-image][data-ready=true]').count()) === count);

  /** The images that the transcript really shows. */
  const shown = async (count) => {
    const images = page.page.getByTestId("transcript").getByTestId("image");
    await eventually(`${count} images are shown`, async () => {
      const widths = await images.evaluateAll((all) => all.map((image) => (image.complete ? image.naturalWidth : 0)));
      return widths.length === count && widths.every((width) => width > 0);
    }, 60_000);
    return images.evaluateAll((all) => all.map((image) => image.getAttribute("src")));
  };

  it("are pasted and dropped, kept with the draft, and reach the model", async () => {
    await give("paste", RED, "red.png");
    await give("drop", BLUE, "blue.png");
    await ready(2);
    await page.at("composer").fill("look");
    assert.deepEqual(await page.violations(), []);
    await page.shot("images-draft");
    await page.reload();
    await ready(2);
    await page.send("look");
    await page.idle();
    const told = [RED, BLUE].map((bytes, index) => `image/png, ${bytes.length} bytes, ${["96x64", "120x60"][index]}, sha256 ${hash(bytes).slice(0, 12)}`);
    assert.ok((await page.transcript()).at(-1).text.endsWith(`I received 2 images: ${told.join("; ")}`));
    assert.deepEqual(await shown(2), [RED, BLUE].map((bytes) => `/api/v1/blobs/${hash(bytes)}`));
    assert.equal(await page.at("draft-image").count(), 0);
    await page.shot("images-answered");
  });

  it("are chosen with the keyboard alone, removed, and sent without a word", async () => {
    const chosen = page.page.waitForEvent("filechooser");
    await page.at("add-images").focus();
    await page.page.keyboard.press("Enter");
    await (await chosen).setFiles([
      { name: "green.png", mimeType: "image/png", buffer: GREEN },
      { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no image") },
      { name: "fake.png", mimeType: "image/png", buffer: Buffer.from("no image either") },
    ]);
    await ready(1);
    await eventually("what is none is refused, here and by the server", async () => (await page.page.getByRole("alert").count()) === 2);
    assert.match(await page.page.getByRole("alert").last().innerText(), /fake\.png.*no PNG, JPEG, GIF or WebP/);
    assert.ok(await page.at("send").isDisabled());
    await page.shot("images-refused");
    for (const name of ["notes.txt", "fake.png"]) await page.page.getByRole("button", { name: `Remove ${name}` }).click();
    await page.send("");
    await page.idle();
    assert.match((await page.transcript()).at(-1).text, new RegExp(`1 image: image/png, ${GREEN.length} bytes, 64x64`));
  });

  it("are the user's own, and nothing but images", async () => {
    const address = new URL(`/api/v1/blobs/${hash(RED)}`, page.page.url()).toString();
    const own = await page.context.request.get(address);
    assert.deepEqual([own.status(), hash(await own.body())], [200, hash(RED)]);
    const headers = own.headers();
    assert.equal(headers["content-type"], "image/png");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.match(headers["content-security-policy"], /default-src 'none'; sandbox/);
    assert.match(headers["content-disposition"], /^attachment/);
    assert.match(headers["cache-control"], /^private/);
    const stranger = await LodgePage.open(browser);
    assert.equal((await stranger.context.request.get(address)).status(), 401);
    const origin = new URL(address).origin;
    const post = (headers) => stranger.context.request.post(address.replace(/\/[^/]*$/, ""), { data: RED, headers });
    assert.equal((await post({ origin })).status(), 401);
    assert.equal((await post({})).status(), 403, "whoever is no page of ours");
    await stranger.close();
  });

  it("outlive kill -9 of everything", async () => {
    await lodge.killAll();
    await lodge.up();
    await page.connected();
    await page.reload();
    await page.idle();
    await page.at("transcript").evaluate((element) => element.scrollTo({ top: 0, behavior: "instant" }));
    const images = page.page.getByTestId("transcript").getByTestId("image");
    await eventually("they are shown again", async () => (await images.first().evaluate((image) => image.naturalWidth)) === 96, 60_000);
    await page.shot("images-after-kill");
    await give("paste", RED, "red.png");
    await ready(1);
    await page.ask("look");
    assert.match((await page.transcript()).at(-1).text, new RegExp(`1 image: .*sha256 ${hash(RED).slice(0, 12)}`));
  });
});
