/** Seals a provider's key for the gateway, so that nothing between this page and it has the key. */

export interface KeyExchange {
  readonly exchange: string;
  /** Base64 of an uncompressed P-256 point. */
  readonly publicKey: string;
}

export interface SealedKey {
  readonly exchange: string;
  readonly public_key: string;
  readonly sealed: string;
}

/** What the derived key is for; the gateway has the same words. */
const INFO = "lodge provider key v1";

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

export function toBase64(bytes: ArrayBuffer): string {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

/** `context`: name, kind and base URL of the provider as they are sent, each on a line. */
export async function sealKey(begun: KeyExchange, key: string, context: string): Promise<SealedKey> {
  const { subtle } = crypto;
  const curve = { name: "ECDH", namedCurve: "P-256" };
  const utf8 = new TextEncoder();
  const own = await subtle.generateKey(curve, false, ["deriveBits"]);
  const gateway = await subtle.importKey("raw", fromBase64(begun.publicKey), curve, false, []);
  const shared = await subtle.deriveBits({ name: "ECDH", public: gateway }, own.privateKey, 256);
  const secret = await subtle.importKey("raw", shared, "HKDF", false, ["deriveKey"]);
  const derived = await subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: utf8.encode(INFO) },
    secret,
    { name: "AES-GCM", length: 256 },
    false,
    ["encrypt"],
  );
  // The derived key is good for this one message: so is its nonce.
  const cipher = { name: "AES-GCM", iv: new Uint8Array(12), additionalData: utf8.encode(context) };
  const sealed = await subtle.encrypt(cipher, derived, utf8.encode(key));
  const point = await subtle.exportKey("raw", own.publicKey);
  return { exchange: begun.exchange, public_key: toBase64(point), sealed: toBase64(sealed) };
}
