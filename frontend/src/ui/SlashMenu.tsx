/** The harness's slash commands, offered while one is being typed. */
import { useState, type KeyboardEvent } from "react";
import type { CommandInfo } from "../protocol/generated";

const LIST_ID = "slash-commands";
const optionId = (index: number): string => `slash-command-${index}`;

export interface SlashState {
  readonly commands: readonly CommandInfo[];
  readonly active: number;
  readonly pick: (name: string) => void;
  /** Handles a key; `true` where the menu took it. */
  readonly onKey: (event: KeyboardEvent) => boolean;
  readonly fieldProps: Record<string, string | boolean | undefined>;
}

export function useSlashMenu(commands: readonly CommandInfo[], onPick: (name: string) => void): SlashState {
  const [at, setAt] = useState(0);
  const [closedFor, setClosedFor] = useState<number>();
  const open = commands.length > 0 && closedFor !== commands.length;
  const active = Math.min(at, commands.length - 1);
  const pick = (name: string) => {
    setAt(0);
    onPick(name.replace(/^\//, ""));
  };
  const onKey = (event: KeyboardEvent): boolean => {
    if (!open || event.nativeEvent.isComposing) return false;
    if (event.key === "ArrowDown") setAt((active + 1) % commands.length);
    else if (event.key === "ArrowUp") setAt((active - 1 + commands.length) % commands.length);
    else if (event.key === "Escape") setClosedFor(commands.length);
    else if (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey)) pick(commands[active]?.name ?? "");
    else return false;
    event.preventDefault();
    return true;
  };
  const fieldProps = open
    ? { role: "combobox", "aria-expanded": true, "aria-controls": LIST_ID, "aria-activedescendant": optionId(active) }
    : {};
  return { commands: open ? commands : [], active, pick, onKey, fieldProps };
}

export function SlashMenu({ menu }: { menu: SlashState }) {
  if (menu.commands.length === 0) return null;
  return (
    <ul className="slash-menu" role="listbox" id={LIST_ID} aria-label="Commands">
      {menu.commands.map((command, index) => (
        <li
          key={command.name}
          id={optionId(index)}
          role="option"
          aria-selected={index === menu.active}
          onMouseDown={(event) => {
            event.preventDefault();
            menu.pick(command.name);
          }}
        >
          <code>/{command.name.replace(/^\//, "")}</code> <span>{command.description}</span>
        </li>
      ))}
    </ul>
  );
}
