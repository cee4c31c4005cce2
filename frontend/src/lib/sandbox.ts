/** Words for the walls around an agent. */
import type { Finding, FindingKind, ProfileChoice, SandboxChoices, Tier, TierChoice } from "../protocol/generated";

export interface TierWords {
  readonly title: string;
  readonly about: string;
  /** What still holds a guest when the first wall has a hole. */
  readonly kernel: string;
}

export const TIERS: Readonly<Record<Tier, TierWords>> = {
  process: {
    title: "Process",
    about: "Namespaces, Landlock and a system call filter. Starts at once.",
    kernel: "It shares this machine’s kernel: a hole in the kernel is a hole in the wall.",
  },
  container: {
    title: "Container",
    about: "A container of Docker or Podman without network, on a read-only image.",
    kernel: "It shares this machine’s kernel, and the container engine is a further part that has to hold.",
  },
  microvm: {
    title: "MicroVM",
    about: "A small virtual machine with a kernel of its own. The strongest wall.",
    kernel: "It has a kernel of its own. A guest would have to break that, QEMU, and the process tier around QEMU.",
  },
};

export const tierTitle = (tier: Tier): string => TIERS[tier]?.title ?? tier;

export const tierChoice = (choices: SandboxChoices, tier: Tier): TierChoice | undefined =>
  choices.tiers.find((choice) => choice.tier === tier);

export const profileChoice = (choices: SandboxChoices, name: string): ProfileChoice | undefined =>
  choices.profiles.find((choice) => choice.name === name);

export interface Walls {
  readonly tier: Tier;
  readonly profile: string;
}

/** What a session gets that asks for nothing. It is never weakened here: a tier that cannot be had stays chosen. */
export function defaultWalls(choices: SandboxChoices): Walls {
  return { tier: choices.default_tier, profile: choices.default_profile };
}

/** The walls after another profile was picked: its own tier comes with it. */
export function withProfile(choices: SandboxChoices, walls: Walls, profile: string): Walls {
  return { profile, tier: profileChoice(choices, profile)?.tier ?? walls.tier };
}

/** Why no session can start behind these walls. */
export function wallsProblem(choices: SandboxChoices, walls: Walls): string | undefined {
  const tier = tierChoice(choices, walls.tier);
  if (tier?.usable) return undefined;
  return `The ${tierTitle(walls.tier).toLowerCase()} tier cannot be used on this machine. Mend it, or choose another tier.`;
}

/** What an agent behind these walls may do, and what it may not. */
export interface Rights {
  readonly may: readonly string[];
  readonly mayNot: readonly string[];
  /** What the wall rests on. */
  readonly rests: string;
}

export function rightsOf(tier: Tier, profile: string, network: string | undefined): Rights {
  const broker = network === "broker";
  const wide = profile === "minimal";
  return {
    may: [
      "Read and write the files of its workspace, but for files that steer your own tools (Git hooks and configuration, editor and agent settings).",
      "Read the system’s programs and libraries.",
      ...(wide ? ["Read your home folder, without the files that hold secrets."] : []),
      "Talk to the model provider, through Lodge, which alone has the key.",
      ...(broker ? ["Reach the hosts that the policy names, by name, through Lodge’s broker. Every attempt is listed under Network."] : []),
      ...(wide && broker ? ["Ask you for other hosts."] : []),
    ],
    mayNot: [
      wide ? "Write outside of its workspace." : "See or change files outside of its workspace.",
      "See other processes, other sessions, or your desktop.",
      broker ? "Reach addresses of your own network or of this machine." : "Reach the network.",
      "Gain rights, load kernel modules, or outlive its session.",
    ],
    rests: TIERS[tier]?.kernel ?? "",
  };
}

/** What a part of Lodge says of a problem, as a sentence of its own. */
export function sentence(text: string): string {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}

export interface FindingWords {
  readonly title: string;
  readonly about: string;
}

export const FINDINGS: Readonly<Record<FindingKind, FindingWords>> = {
  control_file: { title: "Control file", about: "Tools outside of the sandbox (your shell, editor or agents) act on it. Read it before you use the folder." },
  hook: { title: "Git hook", about: "Git runs it when you commit, check out or push there." },
  hard_link: { title: "Hard link", about: "The same file has another name. Writing to one changes both." },
  nested_repository: { title: "Nested repository", about: "A Git repository below your own, with hooks and settings of its own. Git and your prompt may act on them." },
  set_uid: { title: "Runs with other rights", about: "A program that runs with the rights of its owner or group, whoever starts it." },
  special_file: { title: "Socket, pipe or device", about: "A program that opens it may hang, or talk to whoever made it." },
};

export function findingWords(finding: Finding): FindingWords {
  return FINDINGS[finding.kind] ?? { title: finding.kind, about: "Look at it before you use the folder." };
}
