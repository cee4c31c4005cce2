import { useCallback, useEffect, useRef, useState } from "react";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";

export interface Loaded<T> {
  /** The last that was loaded; it stays while newer is on its way. */
  readonly value: T | undefined;
  readonly error: ErrorBody | undefined;
  readonly refresh: () => void;
}

/** What `load` resolves with, and again when `load` changes or on demand. Late answers to an earlier question are dropped. */
export function useLoaded<T>(load: () => Promise<T>): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [error, setError] = useState<ErrorBody>();
  const asked = useRef(0);
  const refresh = useCallback(() => {
    asked.current += 1;
    const question = asked.current;
    load().then(
      (found) => {
        if (question !== asked.current) return;
        setValue(found);
        setError(undefined);
      },
      (failure: unknown) => {
        if (question === asked.current) setError(errorBody(failure));
      },
    );
  }, [load]);
  useEffect(refresh, [refresh]);
  return { value, error, refresh };
}
