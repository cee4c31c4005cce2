/** Which agent, in which folder, with which model, behind which walls. */
import { LoaderCircle } from "lucide-react";
import { useEffect, useState, type SubmitEvent } from "react";
import { useApp, useClient } from "../app/context";
import { navigate, sessionHref } from "../app/route";
import { load, save } from "../lib/storage";
import { errorBody } from "../protocol/wire";
import { defaultWalls, wallsProblem, type Walls } from "../lib/sandbox";
import type { CommandBody, ErrorBody, HarnessInfo, ModelInfo, SandboxChoices, WorkspaceInfo } from "../protocol/generated";
import type { Client } from "../state/client";
import { readModels, readUnusable, readSandbox, readSession, readWorkspacePath, readWorkspaces } from "../state/results";
import { Dialog } from "./Dialog";
import { HarnessPicker, isUsable, sortedHarnesses } from "./HarnessPicker";
import { ErrorNote } from "./OtherPart";
import { SandboxPicker } from "./SandboxPicker";
import { modelOptions } from "./SessionHeader";
import { WorkspaceCodeLine } from "./WorkspaceCode";
import { WorkspacePicker } from "./WorkspacePicker";

interface Offer {
  readonly workspaces: readonly WorkspaceInfo[];
  /** Models that this harness can be used with. */
  readonly models: (harness: string) => readonly ModelInfo[];
  readonly sandbox: SandboxChoices | undefined;
}

async function fetchOffer(client: Client): Promise<Offer> {
  const [workspaces, models, sandbox] = await Promise.all([
    client.send({ cmd: "workspace.list" }),
    // Without the list of models one works with the harness's own default.
    client.send({ cmd: "get_models" }).catch(() => undefined),
    // Without the list of walls a session gets those that the server decides on.
    client.send({ cmd: "sandbox.list" }).catch(() => undefined),
    client.refreshHarnesses(),
  ]);
  return {
    workspaces: readWorkspaces(workspaces),
    models: (harness) => {
      const unusable = readUnusable(models, harness);
      return readModels(models).filter((model) => !unusable.includes(model.id));
    },
    sandbox: readSandbox(sandbox),
  };
}

function useOffer(client: Client) {
  const [offer, setOffer] = useState<Offer>();
  const [error, setError] = useState<ErrorBody>();
  useEffect(() => {
    let live = true;
    fetchOffer(client)
      .then((found) => live && setOffer(found))
      .catch((failure: unknown) => live && setError(errorBody(failure)));
    return () => {
      live = false;
    };
  }, [client]);
  return { offer, error };
}

/** The path of a folder that may be there: of a known workspace, or as typed where absolute. */
function existingWorkspace(typed: string, known: readonly WorkspaceInfo[]): string | undefined {
  const match = known.find((workspace) => workspace.path === typed || workspace.name === typed);
  return match?.path ?? (typed.startsWith("/") ? typed : undefined);
}

/** The folder's path, else that of a new folder below the default root. */
async function resolveWorkspace(client: Client, typed: string, known: readonly WorkspaceInfo[]): Promise<string> {
  const path = existingWorkspace(typed, known);
  if (path !== undefined) return path;
  return readWorkspacePath(await client.send({ cmd: "workspace.create", name: typed })) ?? typed;
}

interface FormProps {
  readonly offer: Offer;
  readonly onClose: () => void;
}

/** The one that was chosen, else the one of the last session, else the first that can be used. */
function chosenHarness(harnesses: readonly HarnessInfo[], chosen: string | undefined): string {
  const usable = sortedHarnesses(harnesses).filter(isUsable);
  const named = (name: string | undefined) => usable.find((harness) => harness.name === name);
  return (named(chosen) ?? named(load("last-harness")) ?? usable[0])?.name ?? "";
}

const INSTALL_POLL_MS = 1_000;

/** The harnesses, followed while one is being installed, whoever began that. */
function useHarnesses(client: Client) {
  const harnesses = useApp((state) => state.harnesses);
  const [error, setError] = useState<ErrorBody>();
  const busy = harnesses.some((harness) => harness.installing);
  useEffect(() => {
    if (!busy) return;
    // A list that cannot be had now is asked for again.
    const timer = setInterval(() => void client.refreshHarnesses().catch(() => undefined), INSTALL_POLL_MS);
    return () => clearInterval(timer);
  }, [busy, client]);
  const install = async (name: string) => {
    setError(undefined);
    try {
      await client.send({ cmd: "harness.install", name });
      await client.refreshHarnesses();
    } catch (failure) {
      setError(errorBody(failure));
    }
  };
  return { harnesses, error, install };
}

interface Wish {
  readonly harness: string;
  readonly typed: string;
  readonly model: string;
  readonly walls: Walls | undefined;
}

function useCreate(client: Client, onClose: () => void) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ErrorBody>();
  const create = async ({ harness, typed, model, walls }: Wish, known: readonly WorkspaceInfo[]) => {
    setBusy(true);
    setError(undefined);
    try {
      const workspace = await resolveWorkspace(client, typed, known);
      const body: CommandBody = { cmd: "session.create", harness, workspace, ...(model === "" ? {} : { model }), ...walls };
      const session = readSession(await client.send(body));
      save("last-harness", harness);
      save("last-workspace", typed);
      if (session) {
        client.addSession(session);
        navigate(sessionHref(session.id));
      }
      onClose();
    } catch (failure) {
      setError(errorBody(failure));
      setBusy(false);
    }
  };
  return { busy, error, create };
}

function ModelPicker({ models, value, onChange }: { models: readonly ModelInfo[]; value: string; onChange: (id: string) => void }) {
  if (models.length === 0) return null;
  return (
    <label className="labelled">
      <span>Model</span>
      <select className="field" value={value} data-testid="new-model" onChange={(event) => onChange(event.target.value)}>
        <option value="">The agent’s default</option>
        {modelOptions(models).map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </label>
  );
}

function NewSessionForm({ offer, onClose }: FormProps) {
  const client = useClient();
  const { harnesses, error: installError, install } = useHarnesses(client);
  // What is offered first stays chosen when another one, which comes before it, has been installed.
  const [chosen, setChosen] = useState(() => chosenHarness(harnesses, undefined));
  const harness = chosenHarness(harnesses, chosen);
  const models = offer.models(harness);
  const [workspace, setWorkspace] = useState(() => load("last-workspace") ?? offer.workspaces[0]?.name ?? "my-project");
  const [wanted, setModel] = useState("");
  // What was chosen for another harness does not go along where this one has no use for it.
  const model = models.some((known) => known.id === wanted) ? wanted : "";
  const [walls, setWalls] = useState(() => offer.sandbox && defaultWalls(offer.sandbox));
  const { busy, error: createError, create } = useCreate(client, onClose);
  const error = createError ?? installError;
  const problem = offer.sandbox && walls && wallsProblem(offer.sandbox, walls);
  const ready = harness !== "" && workspace.trim() !== "" && !busy && !problem;
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    if (ready) void create({ harness, typed: workspace.trim(), model, walls }, offer.workspaces);
  };
  return (
    <form onSubmit={submit}>
      <div className="dialog-body">
        <HarnessPicker harnesses={harnesses} value={harness} onChange={setChosen} onInstall={(name) => void install(name)} />
        <WorkspacePicker workspaces={offer.workspaces} value={workspace} onChange={setWorkspace} />
        <WorkspaceCodeLine workspace={existingWorkspace(workspace.trim(), offer.workspaces)} harness={harness} />
        {offer.sandbox && walls && <SandboxPicker choices={offer.sandbox} value={walls} onChange={setWalls} />}
        <ModelPicker models={models} value={model} onChange={setModel} />
        {error && (
          // What was wrong is seen, however small the window.
          <div key={error.message} ref={(note) => note?.scrollIntoView?.({ block: "nearest" })}>
            <ErrorNote code={error.code} message={error.message} />
          </div>
        )}
      </div>
      <footer className="dialog-actions">
        {problem && (
          <p className="action-note" role="status" data-testid="walls-problem">
            {problem}
          </p>
        )}
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" className="button primary" data-testid="create-session" disabled={!ready}>
          {busy && <LoaderCircle size={14} className="spin" aria-hidden />}
          {busy ? "Starting…" : "Start session"}
        </button>
      </footer>
    </form>
  );
}

export function NewSessionDialog({ onClose }: { onClose: () => void }) {
  const client = useClient();
  const { offer, error } = useOffer(client);
  return (
    <Dialog title="New session" onClose={onClose} size="large" testId="dialog-new-session">
      {error && (
        <div className="dialog-body">
          <ErrorNote code={error.code} message={error.message} />
        </div>
      )}
      {!offer && !error && (
        <p className="dialog-body dialog-loading" role="status">
          <LoaderCircle size={16} className="spin" aria-hidden /> Looking for agents and workspaces
        </p>
      )}
      {offer && <NewSessionForm offer={offer} onClose={onClose} />}
    </Dialog>
  );
}
