/** One row of the session list. */
import { Pencil, Power, Trash2 } from "lucide-react";
import { memo, useState } from "react";
import { useClient, useHarnessTitle } from "../app/context";
import { navigate, parseRoute, sessionHref } from "../app/route";
import { baseName, formatWhen } from "../lib/format";
import type { SessionInfo } from "../protocol/generated";
import { ConfirmDialog, PromptDialog } from "./SmallDialogs";
import { Menu, type MenuItem } from "./Menu";
import { dotKind, STATUS_LABELS } from "./status";

/** Rename, close and delete, for the list and for the header of the open session. */
export function useSessionActions(session: SessionInfo) {
  const client = useClient();
  const [dialog, setDialog] = useState<"rename" | "delete">();
  const done = () => setDialog(undefined);
  const items: MenuItem[] = [
    { label: "Rename", icon: <Pencil size={14} aria-hidden />, onSelect: () => setDialog("rename") },
    ...(session.status === "stopped"
      ? []
      : [
          {
            label: "Close (can be resumed)",
            icon: <Power size={14} aria-hidden />,
            onSelect: () => void client.attempt({ cmd: "session.close" }, session.id),
          },
        ]),
    { label: "Delete", icon: <Trash2 size={14} aria-hidden />, onSelect: () => setDialog("delete"), danger: true },
  ];
  const remove = async () => {
    done();
    const answer = await client.attempt({ cmd: "session.delete" }, session.id);
    const route = parseRoute(window.location.hash);
    if (answer && route.page === "session" && route.id === session.id) navigate("#/");
  };
  const dialogs = (
    <>
      {dialog === "rename" && (
        <PromptDialog
          title="Rename session"
          label="Title"
          value={session.title}
          action="Rename"
          onClose={done}
          onSubmit={(title) => {
            done();
            void client.attempt({ cmd: "set_title", title }, session.id);
          }}
        />
      )}
      {dialog === "delete" && (
        <ConfirmDialog title="Delete this session?" action="Delete" onClose={done} onConfirm={() => void remove()}>
          <p>
            “{session.title || "Untitled"}” and its conversation will be gone for good. Files in the workspace stay.
          </p>
        </ConfirmDialog>
      )}
    </>
  );
  return { items, dialogs };
}

export const SessionItem = memo(function SessionItem({ session, current }: { session: SessionInfo; current: boolean }) {
  const { items, dialogs } = useSessionActions(session);
  const dot = dotKind(session);
  const harness = useHarnessTitle(session.harness);
  const title = session.title || "Untitled";
  return (
    <li className={current ? "session-row current" : "session-row"}>
      <a
        className="session-link"
        href={sessionHref(session.id)}
        aria-current={current ? "page" : undefined}
        data-testid="session-item"
        data-session-id={session.id}
      >
        <span className={`dot dot-${dot}`} aria-hidden="true" />
        <span className="session-title">{title}</span>
        <span className="visually-hidden">{session.needs_input ? "Needs your answer" : STATUS_LABELS[session.status]}</span>
        <span className="session-sub">
          {session.needs_input && <span className="badge">Needs you</span>}
          <span>{harness}</span>
          <span className="ellipsis">{baseName(session.workspace)}</span>
          <time dateTime={new Date(session.updated_at).toISOString()}>{formatWhen(session.updated_at, Date.now())}</time>
        </span>
      </a>
      <Menu label={`Actions for ${title}`} items={items} />
      {dialogs}
    </li>
  );
});
