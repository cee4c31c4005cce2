/** The application once somebody is logged in: session list beside the open page, dialogs and notices above. */
import { lazy, Suspense, useCallback, useEffect, useMemo, useState } from "react";
import { sortedSessions } from "../state/app-state";
import { HelpDialog } from "../ui/HelpDialog";
import { HomePage } from "../ui/HomePage";
import { NewSessionDialog } from "../ui/NewSessionDialog";
import { SessionPage } from "../ui/SessionPage";
import { SettingsPage } from "../ui/SettingsPage";
import { Sidebar } from "../ui/Sidebar";
import { Toasts } from "../ui/Toasts";
import { useApp, useClient } from "./context";
import { navigate, sessionHref, useRoute, type Route } from "./route";
import { useShortcuts } from "./shortcuts";

const UsagePage = lazy(() => import("../ui/usage/UsagePage").then((module) => ({ default: module.UsagePage })));

type OpenDialog = "new" | "help" | undefined;

function useMove(route: Route): (step: 1 | -1) => void {
  const client = useClient();
  return useCallback(
    (step) => {
      const ids = sortedSessions(client.store.get().sessions).map((session) => session.id);
      const at = route.page === "session" ? ids.indexOf(route.id) : -1;
      const next = ids[Math.min(Math.max(at + step, 0), ids.length - 1)];
      if (next) navigate(sessionHref(next));
    },
    [client, route],
  );
}

function usePageTitle(route: Route): void {
  const sessions = useApp((state) => state.sessions);
  useEffect(() => {
    const waiting = Object.values(sessions).filter((session) => session.needs_input).length;
    const title = route.page === "session" ? sessions[route.id]?.title : undefined;
    const name = title ? `${title} · Lodge` : "Lodge";
    document.title = waiting > 0 ? `(${waiting}) ${name}` : name;
  }, [sessions, route]);
}

function Announcer() {
  const announcement = useApp((state) => state.announcement);
  return (
    <div className="visually-hidden" aria-live="polite" role="status">
      {announcement}
    </div>
  );
}

function Page({ route, onMenu, onNew }: { route: Route; onMenu: () => void; onNew: () => void }) {
  if (route.page === "session") return <SessionPage key={route.id} id={route.id} onMenu={onMenu} />;
  if (route.page === "settings") return <SettingsPage onMenu={onMenu} />;
  if (route.page === "usage") {
    return (
      <Suspense fallback={<p className="muted" role="status">Loading…</p>}>
        <UsagePage whose={route.whose} section={route.section} onMenu={onMenu} />
      </Suspense>
    );
  }
  return <HomePage onMenu={onMenu} onNew={onNew} />;
}

export function App() {
  const route = useRoute();
  const [dialog, setDialog] = useState<OpenDialog>();
  const [drawer, setDrawer] = useState(false);
  const move = useMove(route);
  const close = useCallback(() => setDialog(undefined), []);
  const shortcuts = useMemo(
    () => ({ newSession: () => setDialog("new"), help: () => setDialog("help"), move }),
    [move],
  );
  useShortcuts(shortcuts);
  usePageTitle(route);
  useEffect(() => setDrawer(false), [route]);

  return (
    <div className="app" data-testid="login-ok">
      <a className="skip-link" href="#main" onClick={(event) => skipToMain(event)}>
        Skip to the conversation
      </a>
      <Sidebar
        route={route}
        open={drawer}
        onClose={() => setDrawer(false)}
        onNew={() => {
          setDrawer(false);
          setDialog("new");
        }}
        onHelp={() => setDialog("help")}
      />
      <main id="main" className="main" tabIndex={-1}>
        <Page route={route} onMenu={() => setDrawer(true)} onNew={() => setDialog("new")} />
      </main>
      {dialog === "new" && <NewSessionDialog onClose={close} />}
      {dialog === "help" && <HelpDialog onClose={close} />}
      <Toasts />
      <Announcer />
    </div>
  );
}

/** Focus moves without touching the fragment, which belongs to the route. */
function skipToMain(event: React.MouseEvent): void {
  event.preventDefault();
  const target = document.querySelector<HTMLElement>("[data-testid=composer]") ?? document.getElementById("main");
  target?.focus();
}
