/** What is set up beside the gateway's configuration file, as the REST interface tells of it. */
import { api } from "../../lib/http";
import { sealedFor } from "../providers";
import { listOf, text, texts } from "./fields";

/** An account as it is set up. */
export interface SetAccount {
  readonly provider: string;
  readonly account: string;
  readonly disabled: boolean;
  /** In `lodge.toml`, which is changed there and not here. */
  readonly isOfFile: boolean;
}

export interface SetAlias {
  readonly provider: string;
  readonly name: string;
  readonly targets: readonly string[];
  readonly isOfFile: boolean;
}

export interface Setup {
  readonly providers: readonly string[];
  readonly accounts: readonly SetAccount[];
  readonly aliases: readonly SetAlias[];
}

export function readSetup(value: unknown): Setup {
  const holds = (list: string) => listOf(value, list).filter((entry) => entry.shadowed !== true);
  return {
    providers: holds("providers").map((provider) => text(provider, "name")),
    accounts: holds("accounts").map((account) => ({
      provider: text(account, "provider"),
      account: text(account, "account"),
      disabled: account.disabled === true,
      isOfFile: text(account, "origin") === "file",
    })),
    aliases: holds("aliases").map((alias) => ({
      provider: text(alias, "provider"),
      name: text(alias, "name"),
      targets: texts(alias, "targets"),
      isOfFile: text(alias, "origin") === "file",
    })),
  };
}

export async function showSetup(): Promise<Setup> {
  return readSetup(await api("GET", "/admin/setup"));
}

const path = (provider: string, account: string) => `/admin/providers/${encodeURIComponent(provider)}/accounts/${encodeURIComponent(account)}`;

/** Hands over the key of an account, sealed for the gateway. */
export async function addAccount(provider: string, account: string, key: string): Promise<void> {
  await api("PUT", path(provider, account), { sealed: await sealedFor(key, `${provider}/${account}\n\n`) });
}

export async function enableAccount({ provider, account }: SetAccount, enabled: boolean): Promise<void> {
  await api("PUT", `${path(provider, account)}/enabled`, { enabled });
}

export async function removeAccount({ provider, account }: SetAccount): Promise<void> {
  await api("DELETE", path(provider, account));
}
