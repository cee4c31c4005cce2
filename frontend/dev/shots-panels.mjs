// Screens of the panels beside the conversation and of the sandbox, for shots.mjs.

async function open(page, name) {
  await page.getByTestId(`panel-${name}`).click();
  await page.getByTestId("workbench").waitFor();
}

const narrow = (page) => (page.viewportSize()?.width ?? 0) < 800;

/** Sends a prompt; on a narrow screen the panel gives way to the conversation first. */
async function prompt(page, text) {
  if (narrow(page) && (await page.getByTestId("workbench-close").count()) > 0) await page.getByTestId("workbench-close").click();
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

const idle = (page) => page.locator("[data-testid=turn-status][data-status=idle]").waitFor();

async function terminal(page, shot) {
  await open(page, "terminal");
  await page.getByTestId("terminal-new").click();
  const rows = page.locator(".xterm-frame:not([hidden]) .xterm-rows");
  await rows.filter({ hasText: "my-project" }).waitFor();
  await page.keyboard.type("colours\recho hello there\r");
  await rows.filter({ hasText: "hello there" }).first().waitFor();
  await shot("terminal");
  await page.reload();
  await rows.filter({ hasText: "hello there" }).first().waitFor();
  const before = await page.getByTestId("terminal-tab").count();
  await page.getByTestId("terminal-new").click();
  await page.getByTestId("terminal-tab").nth(before).waitFor();
  await rows.filter({ hasText: "my-project" }).waitFor();
  await page.keyboard.type("exit 3\r");
  await page.getByTestId("terminal-exit").waitFor();
  await shot("terminal-ended");
  await page.getByTestId("workbench-close").click();
}

async function files(page, shot) {
  await open(page, "files");
  await page.locator("[data-path=src]").click();
  await page.locator('[data-path="src/parse.ts"]').click();
  await page.getByTestId("file-text").waitFor();
  await shot("files");
  await page.getByTestId("file-edit").click();
  await page.getByTestId("file-editor").fill("export const mine = 1;\n");
  if (!narrow(page)) {
    await prompt(page, "touch");
    await page.getByTestId("message-assistant").last().waitFor();
    await idle(page);
    await page.getByTestId("file-save").click();
    await page.getByTestId("file-conflict").waitFor();
    await shot("files-conflict");
    await page.getByTestId("conflict-mine").click();
    await page.getByTestId("file-text").filter({ hasText: "mine" }).waitFor();
  }
  await page.locator('[data-path="src/trojan.ts"]').click();
  await page.getByTestId("hidden-characters").waitFor();
  await page.locator('[data-path="logo.png"]').click();
  await page.getByTestId("file-binary").waitFor();
  await shot("files-binary");
  await page.getByTestId("tab-changes").click();
  await page.getByTestId("git-entry").first().click();
  await page.getByTestId("git-diff").waitFor();
  await shot("changes");
  await page.getByTestId("workbench-close").click();
}

async function guard(page, shot) {
  await prompt(page, "net");
  await page.locator("[data-testid=panel-network][aria-label*=denied]").waitFor();
  await open(page, "network");
  await page.getByTestId("access-row").first().waitFor();
  await shot("network");
  await page.getByTestId("workbench-close").click();
  await prompt(page, "findings");
  await page.getByTestId("findings-show").click();
  await shot("findings");
  await page.getByTestId("findings-dismiss").click();
  await prompt(page, "limit");
  await page.getByTestId("limit-notice").waitFor();
  await shot("limit");
  await idle(page);
  await prompt(page, "killed");
  await page.getByTestId("limit-details").waitFor();
  await shot("limit-ended");
  await page.getByTestId("sandbox-badge").click();
  await page.getByTestId("dialog-sandbox").waitFor();
  await page.waitForTimeout(250);
  await shot("sandbox");
  await page.keyboard.press("Escape");
}

/** Every panel of the open session. `shot` takes a picture and checks it. */
export async function panels(page, shot) {
  await terminal(page, shot);
  await files(page, shot);
  await guard(page, shot);
}
