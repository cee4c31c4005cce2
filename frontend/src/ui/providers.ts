/** The gateway's providers as the REST interface tells of them, read leniently. */
import { api } from "../lib/http";
import { sealKey } from "./sealing";

export interface Provider {
  readonly name: string;
  readonly kind: string;
  readonly baseUrl: string;
  readonly hasKey: boolean;
  /** `environment`, `file`, `sealed` (entered here) or `none`. */
  readonly keySource: string;
  readonly models: number;
}

type Fields = Readonly<Record<string, unknown>>;

function text(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === "string" ? value : "";
}

export function readProviders(value: unknown): readonly Provider[] {
  const named = typeof value === "object" && value !== null ? (value as Fields).providers : undefined;
  const list = Array.isArray(value) ? (value as unknown) : named;
  if (!Array.isArray(list)) return [];
  return (list as readonly Fields[]).map((fields) => ({
    name: text(fields, "name"),
    kind: text(fields, "kind"),
    baseUrl: text(fields, "base_url"),
    hasKey: fields.has_key === true,
    keySource: text(fields, "key_source"),
    models: Array.isArray(fields.models) ? fields.models.length : 0,
  }));
}

export interface KeyInput {
  readonly key: string;
  readonly kind?: string;
  readonly baseUrl?: string;
}

export async function listProviders(): Promise<readonly Provider[]> {
  return readProviders(await api("GET", "/providers"));
}

/** Hands a key over, sealed for the gateway; an empty one: a server that asks for none. */
export async function setProviderKey(name: string, { key, kind, baseUrl }: KeyInput): Promise<void> {
  const body: Fields = {
    ...(key ? { sealed: await sealedFor(key, `${name}\n${kind ?? ""}\n${baseUrl ?? ""}`) } : {}),
    ...(kind ? { kind } : {}),
    ...(baseUrl ? { base_url: baseUrl } : {}),
  };
  await api("PUT", `/providers/${encodeURIComponent(name)}/key`, body);
}

/** A key that only the gateway can open, and only for what `context` names. */
export async function sealedFor(key: string, context: string) {
  const begun = (await api("POST", "/key-exchange")) as Fields;
  return sealKey({ exchange: text(begun, "exchange"), publicKey: text(begun, "public_key") }, key, context);
}

export async function removeProviderKey(name: string): Promise<void> {
  await api("DELETE", `/providers/${encodeURIComponent(name)}`);
}
