/** What each error code means to a person, and what to do about it. */
import type { ErrorCode } from "../protocol/generated";

interface Explanation {
  readonly title: string;
  readonly hint: string;
}

const EXPLANATIONS: Readonly<Record<ErrorCode, Explanation>> = {
  not_found: { title: "Not found", hint: "It may have been deleted in another window." },
  forbidden: { title: "Not allowed", hint: "Your account has no right to this." },
  unauthenticated: { title: "Logged out", hint: "Run “lodge login-link” and open the new link." },
  busy: { title: "Busy", hint: "Wait for the running turn to end, or stop it first." },
  conflict: { title: "Conflict", hint: "Something changed meanwhile. Look at the current state and try again." },
  invalid_argument: { title: "Not valid", hint: "Correct the input and try again." },
  unsupported_by_harness: { title: "Not supported", hint: "This agent cannot do that." },
  harness_not_installed: { title: "Agent not installed", hint: "Run “lodge harness install NAME”." },
  harness_crashed: { title: "The agent crashed", hint: "Your next message starts it again with its conversation." },
  sandbox_unavailable: { title: "Sandbox unavailable", hint: "Run “lodge doctor”: it names the command that mends it." },
  sandbox_denied: { title: "Denied by the sandbox", hint: "The workspace or policy does not allow it." },
  limit_exceeded: { title: "A limit of the sandbox was reached", hint: "What crossed it was ended. A wider limit is set in the sandbox policy, under the key named above." },
  budget_exceeded: { title: "Budget used up", hint: "It goes on when the budget begins anew or an administrator raises it; a cheaper model may still fit." },
  rate_limited: { title: "Rate limited", hint: "The provider asks to slow down. Try again in a moment." },
  provider_error: { title: "Model provider failed", hint: "Check the provider’s key under Settings, or choose another model." },
  deadline_exceeded: { title: "Took too long", hint: "Try again." },
  unavailable: { title: "Unavailable", hint: "A part of Lodge does not answer. It is started again by itself." },
  persisting: { title: "Still saving", hint: "The last turn is being written. Try again in a moment." },
  internal: { title: "Something went wrong", hint: "See “lodge logs” for details." },
};

export function explain(code: string): Explanation {
  return (EXPLANATIONS as Readonly<Record<string, Explanation>>)[code] ?? EXPLANATIONS.internal;
}

/** What agents put before a message that reached them in place of a provider's. */
const FROM_PROVIDER = /^the model provider answered \d{3}: /;
/** What the gateway itself says, not a provider. */
const OWN_WORDS = /^(?:the (?:daily |weekly |monthly )?budget of |a budget applies to this request|this request was ended by hand)/;

const BY_HAND: Explanation = { title: "Ended by hand", hint: "What came through is kept, and paid for." };

/** An error that an agent reports, with what Lodge itself said told apart from what the provider did. */
export function explainReport(code: string, message: string): Explanation & { readonly message: string } {
  const said = message.replace(FROM_PROVIDER, "");
  if (!OWN_WORDS.test(said)) return { ...explain(code), message };
  const own = said.startsWith("this request was ended by hand") ? BY_HAND : explain(code);
  return { ...own, message: said.charAt(0).toUpperCase() + said.slice(1) };
}
