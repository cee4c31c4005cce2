/** Exchanges the one-time token of a login link for a cookie, or says how to get a link. */
import { KeyRound, LoaderCircle } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { api } from "../lib/http";
import { errorBody } from "../protocol/wire";
import type { ErrorBody } from "../protocol/generated";
import { Brand } from "./Brand";

function HowTo() {
  return (
    <>
      <p>
        On the machine where Lodge runs, make a new login link and open it here. A link works once, within five minutes.
      </p>
      <pre className="login-command">
        <code>lodge login-link</code>
      </pre>
    </>
  );
}

function Failed({ error }: { error: ErrorBody }) {
  const expired = ["unauthenticated", "not_found", "forbidden", "conflict"].includes(error.code);
  return (
    <>
      <h1>{expired ? "This login link is no longer good" : "Logging in failed"}</h1>
      <p role="alert" data-testid="login-error">
        {expired ? "It has been used already, or its five minutes are over." : error.message}
      </p>
      <HowTo />
    </>
  );
}

export function LoginPage({ token, onDone }: { token?: string; onDone?: () => void }) {
  const [error, setError] = useState<ErrorBody>();
  const started = useRef(false);

  useEffect(() => {
    if (token === undefined || started.current) return;
    started.current = true;
    // The token must not stay in the address bar, the history or a bookmark.
    window.history.replaceState(null, "", "/");
    api("POST", "/login", { token })
      .then(() => onDone?.())
      .catch((failure: unknown) => setError(errorBody(failure)));
  }, [token, onDone]);

  return (
    <main className="login">
      <div className="login-card" data-testid="login">
        <Brand />
        {error && <Failed error={error} />}
        {!error && token !== undefined && (
          <p className="login-progress" role="status">
            <LoaderCircle size={18} className="spin" aria-hidden /> Logging in…
          </p>
        )}
        {!error && token === undefined && (
          <>
            <h1>
              <KeyRound size={18} aria-hidden /> Log in
            </h1>
            <HowTo />
          </>
        )}
      </div>
    </main>
  );
}
