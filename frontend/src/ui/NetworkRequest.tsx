/** A program of the session asks for a host that the policy leaves to the user. It waits meanwhile. */
import { Globe } from "lucide-react";
import { cleanTerminal } from "../lib/terminal";
import type { PermissionChoice } from "../protocol/generated";
import type { Destination } from "../state/guard";

const CHOICES: Readonly<Partial<Record<PermissionChoice, { readonly label: string; readonly className: string }>>> = {
  once: { label: "Allow once", className: "button primary" },
  session: { label: "Allow for this session", className: "button" },
  deny: { label: "Deny", className: "button" },
};

interface Props {
  readonly destination: Destination;
  readonly message: string | undefined;
  readonly choices: readonly PermissionChoice[];
  readonly busy: boolean;
  readonly onChoose: (choice: PermissionChoice) => void;
}

/** What the port usually is, for who does not know it by heart. */
function portName(port: number): string {
  const names: Readonly<Record<number, string>> = { 22: "SSH", 80: "HTTP, not encrypted", 443: "HTTPS" };
  const name = names[port];
  return name ? `port ${port} (${name})` : `port ${port}`;
}

export function NetworkRequest({ destination, message, choices, busy, onChoose }: Props) {
  const button = (choice: PermissionChoice) => (
    <button
      key={choice}
      type="button"
      disabled={busy}
      className={CHOICES[choice]?.className ?? "button"}
      data-testid={`permission-${choice}`}
      onClick={() => onChoose(choice)}
    >
      {CHOICES[choice]?.label ?? choice}
    </button>
  );
  const allow = choices.filter((choice) => !choice.startsWith("deny"));
  const deny = choices.filter((choice) => choice.startsWith("deny"));
  return (
    <>
      <div className="dialog-body">
        <p className="destination" data-testid="network-destination">
          <Globe size={16} aria-hidden />
          <strong>{cleanTerminal(destination.host)}</strong>
          <span>{portName(destination.port)}</span>
        </p>
        {message && <p className="prewrap">{cleanTerminal(message)}</p>}
        <p className="muted">
          A program in the sandbox wants to connect. It could send there whatever the agent can read. The policy neither allows nor
          forbids this host; addresses of your own network stay closed whatever you answer.
        </p>
      </div>
      <footer className="dialog-actions split">
        <div className="action-group">{deny.map(button)}</div>
        <div className="action-group">{[...allow].reverse().map(button)}</div>
      </footer>
    </>
  );
}
