import { useEffect } from "react";
import { useLoaded, type Loaded } from "./useLoaded";

/** The same again so long after each answer, while somebody looks at the page; at once when they come back to it. */
export function usePolled<T>(load: () => Promise<T>, everyMs: number): Loaded<T> {
  const loaded = useLoaded(load);
  const { value, error, refresh } = loaded;
  useEffect(() => {
    // Each answer begins the next wait: a slow server is not asked faster than it answers.
    const timer = setTimeout(() => {
      if (document.visibilityState === "visible") refresh();
    }, everyMs);
    const onVisible = () => {
      if (document.visibilityState === "visible") refresh();
    };
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [value, error, refresh, everyMs]);
  return loaded;
}
