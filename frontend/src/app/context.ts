import { createContext, use } from "react";
import type { AppState } from "../state/app-state";
import type { Client } from "../state/client";
import { useStore } from "../state/store";

export const ClientContext = createContext<Client | undefined>(undefined);

export function useClient(): Client {
  const client = use(ClientContext);
  if (!client) throw new Error("no client is provided");
  return client;
}

/** The selected slice of the page's state. */
export function useApp<T>(select: (state: AppState) => T): T {
  return useStore(useClient().store, select);
}
