import { createContext, use } from "react";
import type { AppState } from "../state/app-state";
import type { Client } from "../state/client";
import { useStore } from "../state/store";

export const ClientContext = createContext<Client | undefined>(undefined);

/** The folder of the open session: paths below it are shown without it. */
export const WorkspaceContext = createContext("");

export function useClient(): Client {
  const client = use(ClientContext);
  if (!client) throw new Error("no client is provided");
  return client;
}

/** The name for people of a harness, as far as the server has told it. */
export function useHarnessTitle(name: string): string {
  return useApp((state) => state.harnesses.find((harness) => harness.name === name)?.title ?? name);
}

/** The selected slice of the page's state. */
export function useApp<T>(select: (state: AppState) => T): T {
  return useStore(useClient().store, select);
}
