/** Images of prompts: what is taken, how it is sent, where it is shown from. */
import type { BlobRef } from "../protocol/generated";
import { LodgeError, readErrorBody } from "../protocol/wire";
import { BY_STATUS } from "./http";

export const IMAGE_TYPES: readonly string[] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
export const MAX_IMAGE_BYTES = 10 * 1024 * 1024;
export const MAX_IMAGES = 16;
/** An upload that makes no progress for so long has failed. */
const STALLED_MS = 60_000;

/** What is wrong with a file before it is sent. The server looks at its bytes once more. */
export function imageProblem(file: File): string | undefined {
  if (!IMAGE_TYPES.includes(file.type)) return "Only PNG, JPEG, GIF and WebP images can be sent.";
  if (file.size > MAX_IMAGE_BYTES) return "An image has at most 10 MiB.";
  if (file.size === 0) return "The file is empty.";
  return undefined;
}

/** The images among what was pasted or dropped. */
export function imagesOf(data: DataTransfer | null): readonly File[] {
  return [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
}

export const blobUrl = (blob: BlobRef): string => `/api/v1/blobs/${encodeURIComponent(blob.hash)}`;

export function isBlobRef(value: unknown): value is BlobRef {
  if (typeof value !== "object" || value === null) return false;
  const { hash, media_type, size } = value as Record<string, unknown>;
  return typeof hash === "string" && typeof media_type === "string" && typeof size === "number";
}

export interface Upload {
  readonly done: Promise<BlobRef>;
  readonly cancel: () => void;
}

export type Uploader = (file: File, onProgress: (share: number) => void) => Upload;

function answerOf(request: XMLHttpRequest): BlobRef {
  let value: unknown;
  try {
    value = JSON.parse(request.responseText);
  } catch {
    value = undefined;
  }
  if (request.status === 200 && isBlobRef(value)) return value;
  const code = BY_STATUS[request.status] ?? "unavailable";
  throw new LodgeError(readErrorBody(value) ?? { code, message: `The server answered ${request.status}.` });
}

/** Sends a file; `fetch` does not tell how far it is. */
export const upload: Uploader = (file, onProgress) => {
  const request = new XMLHttpRequest();
  const done = new Promise<BlobRef>((resolve, reject) => {
    const failed = (message: string) => () => reject(new LodgeError({ code: "unavailable", message }));
    request.upload.onprogress = (event) => {
      if (event.lengthComputable && event.total > 0) onProgress(event.loaded / event.total);
    };
    request.onerror = failed("The image could not be sent: the server cannot be reached.");
    request.ontimeout = failed("The image could not be sent in time.");
    request.onabort = failed("The image was taken back.");
    request.onload = () => {
      try {
        resolve({ ...answerOf(request), name: file.name.slice(0, 200) });
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    };
    request.open("POST", "/api/v1/blobs");
    request.timeout = STALLED_MS;
    request.setRequestHeader("content-type", "application/octet-stream");
    request.send(file);
  });
  return { done, cancel: () => request.abort() };
};
