/** Light, dark, or as the system says. */
import { useEffect, useState } from "react";
import { load, save } from "../lib/storage";

export type Theme = "system" | "light" | "dark";

const NEXT: Readonly<Record<Theme, Theme>> = { system: "light", light: "dark", dark: "system" };

function stored(): Theme {
  const value = load("theme");
  return value === "light" || value === "dark" ? value : "system";
}

export function applyTheme(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

export function useTheme(): { readonly theme: Theme; readonly next: Theme; readonly cycle: () => void } {
  const [theme, setTheme] = useState<Theme>(stored);
  useEffect(() => {
    applyTheme(theme);
    save("theme", theme === "system" ? undefined : theme);
  }, [theme]);
  return { theme, next: NEXT[theme], cycle: () => setTheme(NEXT[theme]) };
}
