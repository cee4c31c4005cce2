/** An image of a message, from the server. */
import { ImageOff } from "lucide-react";
import { useState } from "react";
import { blobUrl, IMAGE_TYPES } from "../lib/images";
import type { BlobRef } from "../protocol/generated";

export function ImagePart({ blob, alt }: { blob: BlobRef; alt?: string | undefined }) {
  const [lost, setLost] = useState(false);
  const name = alt ?? blob.name ?? "Image";
  if (lost || !IMAGE_TYPES.includes(blob.media_type)) {
    return (
      <span className="chip" data-testid="image-lost">
        <ImageOff size={12} aria-hidden /> {name} (cannot be shown)
      </span>
    );
  }
  return (
    <a className="image-part" href={blobUrl(blob)} download={blob.name ?? true} title={`Save ${name}`}>
      <img src={blobUrl(blob)} alt={name} data-testid="image" loading="lazy" decoding="async" onError={() => setLost(true)} />
    </a>
  );
}
