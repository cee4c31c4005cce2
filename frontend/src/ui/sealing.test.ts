import { describe, expect, it } from "vitest";
import { fromBase64, sealKey, toBase64 } from "./sealing";

const CURVE = { name: "ECDH", namedCurve: "P-256" } as const;

/** As the gateway does it. */
async function open(pair: CryptoKeyPair, sealed: { public_key: string; sealed: string }, context: string) {
  const { subtle } = crypto;
  const peer = await subtle.importKey("raw", fromBase64(sealed.public_key), CURVE, false, []);
  const shared = await subtle.deriveBits({ name: "ECDH", public: peer }, pair.privateKey, 256);
  const secret = await subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
  const info = new TextEncoder().encode("lodge provider key v1");
  const derived = await subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info },
    secret,
    { name: "AES-GCM", length: 256 },
    false,
    ["decrypt"],
  );
  const additionalData = new TextEncoder().encode(context);
  const cipher = { name: "AES-GCM", iv: new Uint8Array(12), additionalData };
  return new TextDecoder().decode(await subtle.decrypt(cipher, derived, fromBase64(sealed.sealed)));
}

describe("sealKey", () => {
  it("is opened by the gateway alone, for the provider it was entered for", async () => {
    const pair = await crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);
    const publicKey = toBase64(await crypto.subtle.exportKey("raw", pair.publicKey));
    const sealed = await sealKey({ exchange: "e1", publicKey }, "sk-ü-1", "a\nopenai\n");
    expect(sealed.exchange).toBe("e1");
    expect(atob(sealed.sealed)).not.toContain("sk-");
    expect(await open(pair, sealed, "a\nopenai\n")).toBe("sk-ü-1");
    await expect(open(pair, sealed, "b\nopenai\n")).rejects.toThrow();
  });
});
