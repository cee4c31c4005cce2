/** localStorage that never throws: private windows and full disks only forget. */
export function load(key: string): string | undefined {
  try {
    return localStorage.getItem(`lodge.${key}`) ?? undefined;
  } catch {
    return undefined;
  }
}

export function save(key: string, value: string | undefined): void {
  try {
    if (value === undefined || value === "") localStorage.removeItem(`lodge.${key}`);
    else localStorage.setItem(`lodge.${key}`, value);
  } catch {
    // Nothing to do: the value lives on in memory.
  }
}
