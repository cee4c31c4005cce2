/** Random identifiers. `crypto.randomUUID` exists only in secure contexts, and plain http on a LAN is none. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
