/** The images that go with what the user writes. Those that were sent to the server are kept with the draft. */
import { useCallback, useEffect, useRef, useState } from "react";
import { newId } from "../lib/id";
import { blobUrl, imageProblem, isBlobRef, MAX_IMAGES, upload, type Upload, type Uploader } from "../lib/images";
import { load, save } from "../lib/storage";
import type { BlobRef } from "../protocol/generated";
import { errorBody } from "../protocol/wire";

export interface DraftImage {
  readonly id: string;
  readonly name: string;
  /** Where the thumbnail comes from. */
  readonly preview: string;
  /** Share that was sent, up to 1. */
  readonly progress: number;
  /** Set once the server has it. */
  readonly blob?: BlobRef;
  readonly error?: string;
}

export interface DraftImages {
  readonly images: readonly DraftImage[];
  readonly ready: readonly BlobRef[];
  /** Why nothing can be sent yet. */
  readonly waits: string | undefined;
  readonly add: (files: readonly File[]) => void;
  readonly remove: (id: string) => void;
  readonly clear: () => void;
}

function restored(key: string): readonly DraftImage[] {
  try {
    const value: unknown = JSON.parse(load(key) ?? "[]");
    if (!Array.isArray(value)) return [];
    return value.filter(isBlobRef).map((blob) => ({
      id: newId(),
      name: blob.name ?? "image",
      preview: blobUrl(blob),
      progress: 1,
      blob,
    }));
  } catch {
    return [];
  }
}

const release = (image: DraftImage) => {
  if (image.preview.startsWith("blob:")) URL.revokeObjectURL(image.preview);
};

function waitsFor(images: readonly DraftImage[]): string | undefined {
  if (images.some((image) => image.error)) return "Remove the image that could not be added.";
  return images.some((image) => !image.blob) ? "An image is still being sent." : undefined;
}

export function useImages(sessionId: string, send: Uploader = upload): DraftImages {
  const key = `draft-images.${sessionId}`;
  const [images, setImages] = useState(() => restored(key));
  const uploads = useRef(new Map<string, Upload>());
  const shown = useRef(images);
  shown.current = images;

  useEffect(() => {
    const blobs = images.flatMap((image) => (image.blob ? [image.blob] : []));
    save(key, blobs.length === 0 ? undefined : JSON.stringify(blobs));
  }, [images, key]);
  useEffect(() => {
    const running = uploads.current;
    return () => {
      for (const one of running.values()) one.cancel();
      running.clear();
      shown.current.forEach(release);
    };
  }, []);

  const edit = useCallback((id: string, change: Partial<DraftImage>) => {
    setImages((all) => all.map((image) => (image.id === id ? { ...image, ...change } : image)));
  }, []);
  const begin = useCallback(
    (id: string, file: File) => {
      const one = send(file, (progress) => edit(id, { progress }));
      uploads.current.set(id, one);
      one.done
        .then((blob) => edit(id, { blob, progress: 1 }))
        .catch((error: unknown) => edit(id, { error: errorBody(error).message }))
        .finally(() => uploads.current.delete(id));
    },
    [edit, send],
  );
  const add = useCallback(
    (files: readonly File[]) => {
      const room = MAX_IMAGES - shown.current.length;
      for (const [index, file] of files.entries()) {
        const id = newId();
        const problem = index < room ? imageProblem(file) : `A message has at most ${MAX_IMAGES} images.`;
        const preview = problem === undefined ? URL.createObjectURL(file) : "";
        const image: DraftImage = { id, name: file.name, preview, progress: 0 };
        setImages((all) => [...all, problem === undefined ? image : { ...image, error: problem }]);
        if (problem === undefined) begin(id, file);
      }
    },
    [begin],
  );
  const remove = useCallback((id: string) => {
    uploads.current.get(id)?.cancel();
    shown.current.filter((image) => image.id === id).forEach(release);
    setImages((all) => all.filter((image) => image.id !== id));
  }, []);
  const clear = useCallback(() => {
    shown.current.forEach(release);
    setImages([]);
  }, []);
  const ready = images.flatMap((image) => (image.blob ? [image.blob] : []));
  return { images, ready, waits: waitsFor(images), add, remove, clear };
}
