/** The walls of the open session, and what they mean for its agent. */
import { Check, ShieldCheck, X } from "lucide-react";
import { useEffect, useState } from "react";
import { useClient } from "../app/context";
import { profileChoice, rightsOf, sentence, tierChoice, tierTitle } from "../lib/sandbox";
import type { SandboxChoices, SessionInfo } from "../protocol/generated";
import { readSandbox } from "../state/results";
import { Dialog } from "./Dialog";
import { WorkspaceCodeLine } from "./WorkspaceCode";

function useChoices(): SandboxChoices | undefined {
  const client = useClient();
  const [choices, setChoices] = useState<SandboxChoices>();
  useEffect(() => {
    let live = true;
    client
      .send({ cmd: "sandbox.list" })
      .then((found) => live && setChoices(readSandbox(found)))
      .catch(() => undefined);
    return () => {
      live = false;
    };
  }, [client]);
  return choices;
}

function Lines({ title, lines, good }: { title: string; lines: readonly string[]; good: boolean }) {
  const Icon = good ? Check : X;
  return (
    <section className="rights">
      <h3>{title}</h3>
      <ul className={good ? "rights-may" : "rights-may-not"}>
        {lines.map((line) => (
          <li key={line}>
            <Icon size={14} aria-hidden /> <span>{line}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function SandboxDialog({ info, onClose }: { info: SessionInfo; onClose: () => void }) {
  const choices = useChoices();
  const name = info.profile ?? choices?.default_profile ?? "development";
  const profile = choices && profileChoice(choices, name);
  const notice = choices && tierChoice(choices, info.tier)?.notice;
  const rights = rightsOf(info.tier, name, profile?.network);
  const command = `lodge sandbox explain --workspace ${info.workspace} --profile ${name} --tier ${info.tier}`;
  return (
    <Dialog title="What may this agent do?" onClose={onClose} testId="dialog-sandbox">
      <div className="dialog-body">
        <p>
          Tier <strong>{tierTitle(info.tier)}</strong>, profile <strong>{name}</strong>. {profile?.summary}
        </p>
        {notice && <p className="tier-notice">{sentence(notice)}</p>}
        <Lines title="It may" lines={rights.may} good />
        <Lines title="It may not" lines={rights.mayNot} good={false} />
        <WorkspaceCodeLine workspace={info.workspace} harness={info.harness} />
        <section className="rights">
          <h3>What this rests on</h3>
          <p>{rights.rests}</p>
        </section>
        <p className="muted">
          Your operator’s, your own and the workspace’s policy files can narrow this further. The whole plan, on the server:
        </p>
        <pre className="rights-command" tabIndex={0}>
          {command}
        </pre>
      </div>
    </Dialog>
  );
}

export function SandboxBadge({ info }: { info: SessionInfo }) {
  const [open, setOpen] = useState(false);
  const label = info.profile ? `${tierTitle(info.tier)} · ${info.profile}` : tierTitle(info.tier);
  return (
    <>
      <button
        type="button"
        className="sandbox-badge"
        title="What may this agent do?"
        data-testid="sandbox-badge"
        data-tier={info.tier}
        data-profile={info.profile}
        onClick={() => setOpen(true)}
      >
        <ShieldCheck size={12} aria-hidden /> {label}
        <span className="visually-hidden">. What may this agent do?</span>
      </button>
      {open && <SandboxDialog info={info} onClose={() => setOpen(false)} />}
    </>
  );
}
