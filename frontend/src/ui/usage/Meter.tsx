/** How much of a limit is used, and how much more is held by what is under way. */
interface Props {
  readonly label: string;
  /** Percent of the limit, from 0 to 100. */
  readonly used: number;
  /** The same, on top. */
  readonly held: number;
}

/** From here on it is shown as nearly used up. */
const TIGHT = 90;

export function Meter({ label, used, held }: Props) {
  const both = Math.min(used + held, 100);
  return (
    <svg
      className={both >= TIGHT ? "meter tight" : "meter"}
      viewBox="0 0 100 8"
      preserveAspectRatio="none"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={both}
    >
      <rect className="meter-ground" width={100} height={8} />
      <rect className="meter-held" width={both} height={8} />
      <rect className="meter-used" width={Math.min(used, 100)} height={8} />
    </svg>
  );
}
