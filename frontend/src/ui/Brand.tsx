export function Brand() {
  return (
    <span className="brand">
      <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
        <rect width="32" height="32" rx="8" className="brand-ground" />
        <path d="M16 6 6 24h5l5-9 5 9h5z" className="brand-roof" />
        <path d="M14 24h4v-4h-4z" className="brand-door" />
      </svg>
      Lodge
    </span>
  );
}
