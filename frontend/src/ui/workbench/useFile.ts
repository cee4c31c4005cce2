/** A file that is open in the panel: its content, and saving with detection of conflicts. */
import { useCallback, useEffect, useRef, useState } from "react";
import { useClient } from "../../app/context";
import type { ErrorBody, FileContent } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { readFile } from "../../state/results";

export interface OpenFile {
  readonly content: FileContent | undefined;
  readonly error: ErrorBody | undefined;
  readonly busy: boolean;
  /** It does not exist yet: saving makes it. */
  readonly isNew: boolean;
  /** What the file holds by now, when it is not what was edited. */
  readonly theirs: FileContent | undefined;
  /** Rises when an editor has to begin anew. */
  readonly edition: number;
  readonly reload: () => void;
  /** Resolves with `true` when the file holds `text`. */
  readonly save: (text: string, expectedVersion: string) => Promise<boolean>;
  readonly takeTheirs: () => void;
  /** Forgets conflict and error. */
  readonly settle: () => void;
}

interface State {
  readonly content?: FileContent | undefined;
  readonly error?: ErrorBody | undefined;
  readonly theirs?: FileContent | undefined;
  readonly busy: boolean;
  readonly edition: number;
  readonly made: boolean;
}

/** The server takes no longer message of a client than 1 MiB; the rest is the command around the text. */
const MAX_SAVED = 1_000_000;

const NOTHING: State = { busy: false, edition: 0, made: false };

export function useFile(sessionId: string, path: string, isNew: boolean): OpenFile {
  const client = useClient();
  const [state, setState] = useState(NOTHING);
  const live = useRef(true);
  const patch = useCallback((change: Partial<State>) => {
    if (live.current) setState((before) => ({ ...before, ...change }));
  }, []);
  const read = useCallback(async () => readFile(await client.send({ cmd: "file.read", path }, sessionId)), [client, path, sessionId]);
  const reload = useCallback(() => {
    read()
      .then((content) => patch({ content, error: undefined }))
      .catch((failure: unknown) => patch({ error: errorBody(failure) }));
  }, [read, patch]);

  useEffect(() => {
    live.current = true;
    if (!isNew) reload();
    return () => {
      live.current = false;
    };
  }, [isNew, reload]);

  const save = async (text: string, expectedVersion: string): Promise<boolean> => {
    if (new TextEncoder().encode(JSON.stringify(text)).length > MAX_SAVED) {
      patch({ error: { code: "invalid_argument", message: "It is too long to be saved from here: at most about 1 MB." } });
      return false;
    }
    patch({ busy: true, error: undefined });
    try {
      await client.send({ cmd: "file.write", path, text, expected_version: expectedVersion }, sessionId);
      patch({ content: await read(), theirs: undefined, made: true });
      return true;
    } catch (failure) {
      const error = errorBody(failure);
      const theirs = error.code === "conflict" ? await read().catch(() => undefined) : undefined;
      patch(theirs ? { theirs } : { error });
      return false;
    } finally {
      patch({ busy: false });
    }
  };
  const takeTheirs = () =>
    setState((before) => ({ ...before, content: before.theirs, theirs: undefined, made: true, edition: before.edition + 1 }));
  const settle = () => patch({ theirs: undefined, error: undefined });
  return { ...state, isNew: isNew && !state.made, content: state.content, error: state.error, theirs: state.theirs, reload, save, takeTheirs, settle };
}
