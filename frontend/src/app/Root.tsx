/** Decides between logging in and the application. */
import { useEffect, useState } from "react";
import { pageToken } from "../lib/http";
import { newId } from "../lib/id";
import { Client } from "../state/client";
import { LoginPage } from "../ui/LoginPage";
import { App } from "./App";
import { ClientContext, useApp } from "./context";
import { loginToken } from "./route";

function createClient(): Client {
  const scheme = window.location.protocol === "https:" ? "wss:" : "ws:";
  return new Client({
    url: `${scheme}//${window.location.host}/api/v1/ws`,
    pageToken,
    openSocket: (url, protocols) => new WebSocket(url, protocols),
    random: Math.random,
    newId,
  });
}

function LoggedIn() {
  const loggedOut = useApp((state) => state.connection === "logged_out");
  return loggedOut ? <LoginPage /> : <App />;
}

function Connected() {
  const [client] = useState(createClient);
  useEffect(() => {
    client.start();
    const nudge = () => {
      if (document.visibilityState === "visible") client.nudge();
    };
    document.addEventListener("visibilitychange", nudge);
    window.addEventListener("online", nudge);
    return () => {
      document.removeEventListener("visibilitychange", nudge);
      window.removeEventListener("online", nudge);
      client.stop();
    };
  }, [client]);
  return (
    <ClientContext value={client}>
      <LoggedIn />
    </ClientContext>
  );
}

export function Root() {
  const [token, setToken] = useState(() => loginToken(window.location.pathname, window.location.hash));
  if (token !== undefined) return <LoginPage token={token} onDone={() => setToken(undefined)} />;
  return <Connected />;
}
