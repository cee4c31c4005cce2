/** Images beside the text in the composer: thumbnails, and the button that adds some. */
import { ImageOff, ImagePlus, X } from "lucide-react";
import { useRef, useState, type ClipboardEvent, type DragEvent } from "react";
import { IMAGE_TYPES, imagesOf } from "../lib/images";
import type { DraftImage, DraftImages } from "./useImages";

function Thumbnail({ image, onRemove }: { image: DraftImage; onRemove: () => void }) {
  const sending = !image.blob && !image.error;
  return (
    <li className={image.error ? "draft-image failed" : "draft-image"} data-testid="draft-image" data-ready={image.blob !== undefined}>
      {image.preview === "" || image.error ? <ImageOff size={24} aria-hidden /> : <img src={image.preview} alt={image.name} />}
      {sending && <progress value={image.progress} aria-label={`Sending ${image.name}`} />}
      {image.error && (
        <span className="draft-image-error" role="alert">
          <strong>{image.name}</strong> {image.error}
        </span>
      )}
      <button type="button" className="draft-image-remove" aria-label={`Remove ${image.name}`} title="Remove" onClick={onRemove}>
        <X size={12} aria-hidden />
      </button>
    </li>
  );
}

export function Thumbnails({ images, remove }: Pick<DraftImages, "images" | "remove">) {
  if (images.length === 0) return null;
  return (
    <ul className="draft-images" aria-label="Images of the message">
      {images.map((image) => (
        <Thumbnail key={image.id} image={image} onRemove={() => remove(image.id)} />
      ))}
    </ul>
  );
}

export function AddImages({ add }: Pick<DraftImages, "add">) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button
        type="button"
        className="icon-button small"
        aria-label="Add images"
        title="Add images: or paste them, or drop them here"
        data-testid="add-images"
        onClick={() => input.current?.click()}
      >
        <ImagePlus size={16} aria-hidden />
      </button>
      <input
        ref={input}
        type="file"
        accept={IMAGE_TYPES.join(",")}
        multiple
        hidden
        data-testid="image-input"
        aria-label="Images to add"
        onChange={(event) => {
          add([...(event.target.files ?? [])]);
          // The same file can be chosen again after it was removed.
          event.target.value = "";
        }}
      />
    </>
  );
}

const holdsFiles = (event: DragEvent): boolean => event.dataTransfer.types.includes("Files");

/** What makes an element take images that are pasted into it or dropped on it. */
export function useImageTarget(able: boolean, add: DraftImages["add"]) {
  const [over, setOver] = useState(false);
  if (!able) return { over: false, handlers: {}, onPaste: undefined };
  const handlers = {
    onDragOver: (event: DragEvent) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      setOver(true);
    },
    onDragLeave: (event: DragEvent) => {
      // Between two children of the element the pointer has not left it.
      if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
    },
    onDrop: (event: DragEvent) => {
      setOver(false);
      if (!holdsFiles(event)) return;
      event.preventDefault();
      add([...event.dataTransfer.files]);
    },
  };
  const onPaste = (event: ClipboardEvent) => {
    // A table of a spreadsheet is on the clipboard as text and as a picture of it: it is the text that is meant.
    if (event.clipboardData.types.includes("text/plain")) return;
    const files = imagesOf(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    add(files);
  };
  return { over, handlers, onPaste };
}
