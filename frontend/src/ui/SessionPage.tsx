/** One open session: header, conversation, queue and composer, and what the agent asks. */
import { lazy, Suspense, useEffect, useState } from "react";
import { useApp, useClient, WorkspaceContext } from "../app/context";
import type { SessionModel } from "../state/model";
import { Banners } from "./Banners";
import { Composer } from "./Composer";
import { ErrorBoundary } from "./ErrorBoundary";
import { MenuButton } from "./HomePage";
import { ErrorNote } from "./OtherPart";
import { PlanPanel } from "./PlanPanel";
import { QueueList } from "./QueueList";
import { RequestDialog } from "./RequestDialog";
import { SessionHeader } from "./SessionHeader";
import { Transcript } from "./Transcript";
import { TurnStatus } from "./TurnStatus";
import { usePanel } from "./workbench/panels";

// Most visits open no panel: their code comes when one is opened.
const Workbench = lazy(() => import("./workbench/Workbench").then((module) => ({ default: module.Workbench })));


/** The first request that waits, unless the user has put it aside to read first. */
function Requests({ model, sessionId }: { model: SessionModel; sessionId: string }) {
  const [aside, setAside] = useState<string>();
  const request = model.requests[0];
  if (!request) return null;
  if (aside === request.id) {
    return (
      <div className="banner banner-input" role="status">
        <span>
          <strong>The agent waits for your answer:</strong> {request.title}
        </span>
        <button type="button" className="button small primary" data-testid="answer" onClick={() => setAside(undefined)}>
          Answer
        </button>
      </div>
    );
  }
  const onLater = () => setAside(request.id);
  return <RequestDialog key={request.id} request={request} more={model.requests.length - 1} sessionId={sessionId} onLater={onLater} />;
}

function Loading({ onMenu }: { onMenu: () => void }) {
  return (
    <div className="page">
      <header className="page-header bare">
        <MenuButton onMenu={onMenu} />
      </header>
      <div className="skeleton" role="status" aria-label="Loading the conversation">
        <span />
        <span />
        <span />
      </div>
    </div>
  );
}

export function SessionPage({ id, onMenu }: { id: string; onMenu: () => void }) {
  const client = useClient();
  const model = useApp((state) => state.models[id]);
  const error = useApp((state) => state.openErrors[id]);
  const { panel, show, toggle } = usePanel(id);
  useEffect(() => {
    client.open(id);
    return () => client.open(undefined);
  }, [client, id]);

  if (!model && error) {
    return (
      <div className="page">
        <header className="page-header">
          <MenuButton onMenu={onMenu} />
        </header>
        <div className="home">
          <ErrorNote code={error.code} message={error.message} />
        </div>
      </div>
    );
  }
  if (!model) return <Loading onMenu={onMenu} />;
  return (
    <WorkspaceContext value={model.info.workspace}>
      <div className="page">
        <SessionHeader model={model} sessionId={id} onMenu={onMenu} panel={panel} onPanel={toggle} />
        <div className="session-columns">
          <div className="conversation">
            <Banners model={model} sessionId={id} />
            <Transcript model={model} sessionId={id} />
            <div className="dock">
              <Requests model={model} sessionId={id} />
              <PlanPanel entries={model.plan} />
              <QueueList model={model} sessionId={id} />
              <TurnStatus model={model} />
              <Composer model={model} sessionId={id} />
            </div>
          </div>
          {panel && (
            <ErrorBoundary fallback={() => <p className="workbench panel-empty">This panel could not be loaded. Reload the page.</p>}>
              <Suspense fallback={<aside className="workbench panel-empty">Loading</aside>}>
                <Workbench model={model} sessionId={id} panel={panel} onShow={show} />
              </Suspense>
            </ErrorBoundary>
          )}
        </div>
      </div>
    </WorkspaceContext>
  );
}
