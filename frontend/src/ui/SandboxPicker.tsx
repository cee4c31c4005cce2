/** How strong the walls around the new agent are: a profile of the policy, and a tier. */
import { TriangleAlert } from "lucide-react";
import { TIERS, profileChoice, sentence, tierTitle, withProfile, type Walls } from "../lib/sandbox";
import type { ProfileChoice, SandboxChoices, TierChoice } from "../protocol/generated";
import { CopyButton } from "./CopyButton";

interface Props {
  readonly choices: SandboxChoices;
  readonly value: Walls;
  readonly onChange: (walls: Walls) => void;
}

/** A command to type stands in backquotes within the advice; without any, the whole advice is one. */
function Mend({ text }: { text: string }) {
  const command = /`([^`]+)`/.exec(text)?.[1];
  return (
    <span className="mend">
      {command ? <span>{text.replace(/`/g, "")}</span> : <code>{text}</code>}
      <CopyButton text={command ?? text} label="Copy the command" />
    </span>
  );
}

function TierCard({ choice, chosen, onChoose }: { choice: TierChoice; chosen: boolean; onChoose: () => void }) {
  const words = TIERS[choice.tier];
  const id = `tier-about-${choice.tier}`;
  return (
    <div className={`harness tier${chosen ? " chosen" : ""}${choice.usable ? "" : " disabled"}`} data-testid={`tier-card-${choice.tier}`}>
      <label className="tier-label">
        <input
          type="radio"
          name="tier"
          value={choice.tier}
          checked={chosen}
          disabled={!choice.usable}
          aria-describedby={id}
          data-testid={`tier-${choice.tier}`}
          onChange={onChoose}
        />
        <span className="harness-title">{words?.title ?? choice.tier}</span>
      </label>
      <div id={id} className="harness-text">
        <span className="harness-about">{words?.about}</span>
        {choice.notice && choice.usable && (
          <span className="tier-notice" data-testid={`tier-notice-${choice.tier}`}>
            <TriangleAlert size={12} aria-hidden /> {sentence(choice.notice)}
          </span>
        )}
        {!choice.usable && (
          <span className="harness-problem" data-testid={`tier-problem-${choice.tier}`}>
            {sentence(choice.problem ?? "Cannot be used on this machine")}
            {choice.mend && <Mend text={choice.mend} />}
          </span>
        )}
      </div>
    </div>
  );
}

function Profiles({ profiles, value, onChange }: { profiles: readonly ProfileChoice[]; value: string; onChange: (name: string) => void }) {
  return (
    <div className="segmented" role="radiogroup" aria-label="Profile">
      {profiles.map((profile) => (
        <label key={profile.name} className={profile.name === value ? "segment chosen" : "segment"}>
          <input
            type="radio"
            name="profile"
            className="visually-hidden"
            value={profile.name}
            checked={profile.name === value}
            data-testid={`profile-${profile.name}`}
            onChange={() => onChange(profile.name)}
          />
          {profile.name}
        </label>
      ))}
    </div>
  );
}

export function SandboxPicker({ choices, value, onChange }: Props) {
  const profile = profileChoice(choices, value.profile);
  return (
    <fieldset className="sandbox-picker" data-testid="sandbox-picker">
      <legend>Sandbox</legend>
      <Profiles profiles={choices.profiles} value={value.profile} onChange={(name) => onChange(withProfile(choices, value, name))} />
      {profile && (
        <p className="muted" data-testid="profile-summary">
          {profile.summary}
          {profile.tier !== value.tier && ` Its own tier would be ${tierTitle(profile.tier).toLowerCase()}.`}
        </p>
      )}
      <div className="harness-grid">
        {choices.tiers.map((choice) => (
          <TierCard
            key={choice.tier}
            choice={choice}
            chosen={choice.tier === value.tier}
            onChoose={() => onChange({ ...value, tier: choice.tier })}
          />
        ))}
      </div>
    </fieldset>
  );
}
