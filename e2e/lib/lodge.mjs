/** A real `lodge up` of its own for a test file. */
import { execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const BINARY = process.env.LODGE_BIN ?? join(REPOSITORY, "target/debug/lodge");
const HARNESSES = join(REPOSITORY, "target/test-data/harness-cache");
/** Guest images, which the container and the microVM tier need (`lodge image build` makes them), and machines that have booted. */
const SANDBOX = join(REPOSITORY, "target/test-data/sandbox");
const run = promisify(execFile);

/** Asks until there is an answer; the last error is kept for the message. */
export async function eventually(what, ask, within = 30_000) {
  const end = Date.now() + within;
  let last;
  while (Date.now() < end) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      last = error;
    }
    await new Promise((done) => setTimeout(done, 25));
  }
  throw new Error(`never happened within ${within} ms: ${what}`, { cause: last });
}

function freePort() {
  return new Promise((done, fail) => {
    const server = createServer();
    server.on("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

export class Lodge {
  #process;
  link = "";

  /**
   * Starts it on a fresh data directory in which these harnesses are installed (and, unless they are to be `alone`, all
   * that the cache has), with further arguments of `lodge up`, variables and a `lodge.toml`, and waits until it is ready.
   */
  static async start({ harnesses = ["pi"], alone = false, args = [], env = {}, config } = {}) {
    const lodge = new Lodge();
    Object.assign(lodge, { args, env });
    for (const name of harnesses) {
      if (!existsSync(join(HARNESSES, "harness", name))) {
        throw new Error(`${name} is missing; run: target/debug/lodge harness install ${name} --data target/test-data/harness-cache`);
      }
    }
    const base = join(REPOSITORY, "target/tests");
    mkdirSync(base, { recursive: true });
    lodge.data = mkdtempSync(join(base, "e2e-"));
    const shared = alone ? ["runtime"] : ["harness", "runtime"];
    if (alone) mkdirSync(join(lodge.data, "harness"), { mode: 0o700 });
    for (const folder of [...shared, ...(alone ? harnesses.map((name) => `harness/${name}`) : [])]) {
      symlinkSync(join(HARNESSES, folder), join(lodge.data, folder));
    }
    if (existsSync(join(SANDBOX, "images"))) {
      mkdirSync(join(lodge.data, "sandbox"), { mode: 0o700 });
      // Snapshots belong to an image and hold nothing of a session, so they may be shared; making one takes a minute.
      mkdirSync(join(SANDBOX, "snapshots"), { recursive: true, mode: 0o700 });
      for (const folder of ["images", "snapshots"]) symlinkSync(join(SANDBOX, folder), join(lodge.data, "sandbox", folder));
    }
    if (config) lodge.configure(config);
    lodge.port = await freePort();
    await lodge.up();
    return lodge;
  }

  /** `lodge up`; again after `killAll`. */
  async up() {
    const args = ["up", "--data", this.data, "--listen", `127.0.0.1:${this.port}`, "--no-open", "--seconds", "900", ...this.args];
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, CI: "1", ...this.env } });
    this.#process = child;
    this.link = await new Promise((done, fail) => {
      child.on("error", fail);
      child.on("exit", (code) => fail(new Error(`lodge up ended with ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const prefix = "Lodge is ready: ";
        if (line.startsWith(prefix)) done(line.slice(prefix.length));
      });
    });
  }

  async lodge(...args) {
    const { stdout } = await run(BINARY, [...args, "--data", this.data], { maxBuffer: 64 << 20 });
    return stdout;
  }

  async lodgectl(...args) {
    const { stdout } = await run(join(dirname(BINARY), "lodgectl"), [...args, "--data", this.data]);
    return stdout;
  }

  /** Writes its configuration file. */
  configure(text) {
    const folder = join(this.data, "config");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeFileSync(join(folder, "lodge.toml"), text, { mode: 0o600 });
  }

  async newLink() {
    return (await this.lodge("login-link")).trim();
  }

  async status() {
    // It exits with 1 while a part is not ready.
    const answer = await run(BINARY, ["status", "--json", "--data", this.data]).catch((error) => error);
    return JSON.parse(answer.stdout);
  }

  /** `kill -9` of one role; resolves when the supervisor has it up again. */
  async kill(role) {
    const { pid } = (await this.status()).roles[role];
    process.kill(pid, "SIGKILL");
    return eventually(`${role} is back`, async () => {
      const status = await this.status();
      return status.ready && status.roles[role].pid !== pid;
    });
  }

  /** Every process of this Lodge at once, as when the machine dies. */
  async killAll() {
    const ended = new Promise((done) => this.#process.on("exit", done));
    for (const pid of this.processes()) process.kill(pid, "SIGKILL");
    await ended;
    await eventually("all are gone", () => this.processes().length === 0);
  }

  /** Processes whose command line names the data directory. */
  processes() {
    const found = spawnSync("pgrep", ["--full", "--", this.data], { encoding: "utf8" });
    return found.stdout.split("\n").filter(Boolean).map(Number);
  }

  /** Where a named workspace is. */
  workspace(name) {
    return join(this.data, "workspaces", name);
  }

  /** Makes a named workspace with the given files before anybody opens it; returns its path. */
  prepare(name, files = {}) {
    const folder = this.workspace(name);
    mkdirSync(folder, { recursive: true });
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    return folder;
  }

  /** Every file of that name below the data directory. */
  find(name, folder = this.data) {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return this.find(name, path);
      return entry.name === name ? [path] : [];
    });
  }

  async stop() {
    const ended = new Promise((done) => {
      if (this.#process.exitCode !== null || this.#process.signalCode !== null) done();
      else this.#process.on("exit", done);
    });
    await this.lodge("down");
    await ended;
    rmSync(this.data, { recursive: true, force: true });
  }
}
