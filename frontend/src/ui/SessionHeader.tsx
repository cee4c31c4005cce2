import { FolderClosed, GitFork, Minimize2, ShieldCheck } from "lucide-react";
import { useState } from "react";
import { useClient, useHarnessTitle } from "../app/context";
import { navigate, sessionHref } from "../app/route";
import { baseName } from "../lib/format";
import type { Capabilities, CommandBody, ModelInfo } from "../protocol/generated";
import type { SessionModel } from "../state/model";
import { SessionApprovals } from "./Approvals";
import { ContextGauge } from "./ContextGauge";
import { MenuButton } from "./HomePage";
import { Menu } from "./Menu";
import { SandboxBadge } from "./SandboxBadge";
import { useSessionActions } from "./SessionItem";
import type { PanelName } from "./workbench/panels";
import { PanelButtons } from "./workbench/PanelButtons";

interface Option {
  readonly value: string;
  readonly label: string;
}

interface PickerProps {
  readonly label: string;
  readonly value: string | undefined;
  readonly options: readonly Option[];
  readonly testId: string;
  readonly onPick: (value: string) => void;
}

/** A native select: it is as accessible on a phone as on a desk. */
function Picker({ label, value, options, testId, onPick }: PickerProps) {
  const known = options.some((option) => option.value === value);
  return (
    <select
      className="picker"
      aria-label={label}
      title={label}
      data-testid={testId}
      value={value ?? ""}
      onChange={(event) => onPick(event.target.value)}
    >
      {!known && <option value={value ?? ""}>{value ?? label}</option>}
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.label}
        </option>
      ))}
    </select>
  );
}

export function modelOptions(models: readonly ModelInfo[]): Option[] {
  const providers = new Set(models.map((model) => model.provider));
  return models.map((model) => ({
    value: model.id,
    label: providers.size > 1 ? `${model.name} · ${model.provider}` : model.name,
  }));
}

function Pickers({ model, run }: { model: SessionModel; run: (body: CommandBody) => void }) {
  const { capabilities, info } = model;
  const levels = capabilities.thinking_levels.map((level) => ({ value: level, label: `Thinking: ${level}` }));
  const modes = capabilities.modes.map((mode) => ({ value: mode.id, label: mode.name }));
  return (
    <>
      {modes.length > 0 && (
        <Picker label="Mode" value={model.mode} options={modes} testId="mode-picker" onPick={(mode) => run({ cmd: "set_mode", mode })} />
      )}
      {capabilities.models.length > 0 && (
        <Picker
          label="Model"
          value={info.model}
          options={modelOptions(capabilities.models)}
          testId="model-picker"
          onPick={(id) => run({ cmd: "set_model", model: id })}
        />
      )}
      {levels.length > 0 && (
        <Picker
          label="Thinking level"
          value={info.thinking_level}
          options={levels}
          testId="thinking-picker"
          onPick={(level) => run({ cmd: "set_thinking_level", level })}
        />
      )}
    </>
  );
}

function useCompact(capabilities: Capabilities, run: (body: CommandBody) => Promise<unknown>) {
  const [sent, setSent] = useState(false);
  if (!capabilities.compact) return [];
  const onSelect = () => {
    setSent(true);
    void run({ cmd: "compact" }).finally(() => setSent(false));
  };
  const label = sent ? "Compacting…" : "Compact the context";
  return [{ label, icon: <Minimize2 size={14} aria-hidden />, onSelect }];
}

/** A new session that goes on from a copy of the whole conversation. */
function useFork(capabilities: Capabilities, sessionId: string) {
  const client = useClient();
  if (!capabilities.fork) return [];
  const onSelect = () => {
    void client.fork(sessionId).then((session) => {
      if (session) navigate(sessionHref(session.id));
    });
  };
  return [{ label: "Fork (go on in a copy)", icon: <GitFork size={14} aria-hidden />, onSelect }];
}

function useAllowed(capabilities: Capabilities, sessionId: string) {
  const [open, setOpen] = useState(false);
  const label = "Allowed in this session";
  const items = capabilities.permissions
    ? [{ label, icon: <ShieldCheck size={14} aria-hidden />, onSelect: () => setOpen(true) }]
    : [];
  return { items, dialog: open && <SessionApprovals sessionId={sessionId} onClose={() => setOpen(false)} /> };
}

interface HeaderProps {
  readonly model: SessionModel;
  readonly sessionId: string;
  readonly onMenu: () => void;
  readonly panel: PanelName | undefined;
  readonly onPanel: (name: PanelName) => void;
}

export function SessionHeader({ model, sessionId, onMenu, panel, onPanel }: HeaderProps) {
  const client = useClient();
  const { info } = model;
  const harness = useHarnessTitle(info.harness);
  const run = (body: CommandBody) => client.attempt(body, sessionId);
  const { items, dialogs } = useSessionActions(info);
  const compact = useCompact(model.capabilities, run);
  const fork = useFork(model.capabilities, sessionId);
  const allowed = useAllowed(model.capabilities, sessionId);
  return (
    <header className="page-header">
      <MenuButton onMenu={onMenu} />
      <div className="header-title">
        <h1 className="ellipsis">{info.title || "Untitled"}</h1>
        <div className="header-sub">
          <span title={info.harness_version ? `${harness} ${info.harness_version}` : harness}>{harness}</span>
          <span className="ellipsis" title={info.workspace}>
            <FolderClosed size={12} aria-hidden /> {baseName(info.workspace)}
          </span>
          <SandboxBadge info={info} />
        </div>
      </div>
      <div className="header-tools">
        <Pickers model={model} run={(body) => void run(body)} />
        <ContextGauge model={model} />
        <PanelButtons panel={panel} model={model} onToggle={onPanel} />
      </div>
      <Menu label="Session actions" items={[...compact, ...fork, ...allowed.items, ...items]} testId="session-menu" />
      {allowed.dialog}
      {dialogs}
    </header>
  );
}
