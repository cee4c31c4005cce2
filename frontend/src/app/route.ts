/** Routes live in the fragment after `#/`, so that every page is one file to the server. */
import { useMemo, useSyncExternalStore } from "react";

export type Route =
  | { readonly page: "home" }
  | { readonly page: "session"; readonly id: string }
  | { readonly page: "settings" }
  | { readonly page: "usage"; readonly whose: "own" | "all"; readonly section: Section };

/** What administrators see of everybody, each under an address of its own. */
export const SECTIONS = ["usage", "budgets", "keys", "accounts", "requests", "audit"] as const;
export type Section = (typeof SECTIONS)[number];

export const sectionHref = (section: Section): string => (section === "usage" ? "#/usage/all" : `#/usage/all/${section}`);

export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#/, "");
  const session = /^\/s\/([0-9a-fA-F-]+)$/.exec(path)?.[1];
  if (session) return { page: "session", id: session };
  if (path === "/settings") return { page: "settings" };
  if (path === "/usage") return { page: "usage", whose: "own", section: "usage" };
  const section = SECTIONS.find((name) => `#${path}` === sectionHref(name));
  if (section) return { page: "usage", whose: "all", section };
  return { page: "home" };
}

/** A login link carries its token as `#token=…`, or as the bare fragment on `/login`. */
export function loginToken(pathname: string, hash: string): string | undefined {
  const fragment = hash.replace(/^#/, "");
  if (fragment === "" || fragment.startsWith("/")) return undefined;
  const named = /^(?:token|login|t)=(.+)$/.exec(fragment)?.[1];
  if (named) return decodeURIComponent(named);
  return pathname.endsWith("/login") ? decodeURIComponent(fragment) : undefined;
}

export const sessionHref = (id: string): string => `#/s/${id}`;

export function navigate(href: string): void {
  window.location.hash = href;
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

const currentHash = () => window.location.hash;

export function useRoute(): Route {
  const hash = useSyncExternalStore(subscribe, currentHash);
  return useMemo(() => parseRoute(hash), [hash]);
}
