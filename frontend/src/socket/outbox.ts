/** Commands that have no answer yet. They are sent again, under the same ids, on every new connection. */
import type { Command, ErrorBody, Response } from "../protocol/generated";
import { LodgeError } from "../protocol/wire";

interface Entry {
  readonly command: Command;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: LodgeError) => void;
  readonly timer: ReturnType<typeof setTimeout> | undefined;
}

/** How long a query (a command without effect) may take. Commands with an effect wait for as long as it takes. */
export const QUERY_TIMEOUT_MS = 30_000;

export class Outbox {
  private readonly entries = new Map<string, Entry>();

  add(command: Command): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer =
        command.client_id === undefined ? setTimeout(() => this.expire(command.id), QUERY_TIMEOUT_MS) : undefined;
      this.entries.set(command.id, { command, resolve, reject, timer });
    });
  }

  /** Settles the command that `response` answers; `false` where nobody waits for it. */
  settle(response: Response): boolean {
    const entry = this.take(response.id);
    if (!entry) return false;
    if ("error" in response) entry.reject(new LodgeError(response.error));
    else entry.resolve(response.ok);
    return true;
  }

  pending(): readonly Command[] {
    return [...this.entries.values()].map((entry) => entry.command);
  }

  rejectAll(error: ErrorBody): void {
    for (const id of [...this.entries.keys()]) this.take(id)?.reject(new LodgeError(error));
  }

  private expire(id: string): void {
    const message = "No answer within 30 seconds.";
    this.take(id)?.reject(new LodgeError({ code: "deadline_exceeded", message }));
  }

  private take(id: string): Entry | undefined {
    const entry = this.entries.get(id);
    if (!entry) return undefined;
    this.entries.delete(id);
    clearTimeout(entry.timer);
    return entry;
  }
}
