/** Who changed what: page by page, the latest first, and only what has a text in it. */
import { Search } from "lucide-react";
import { useEffect, useRef, useState, type SubmitEvent } from "react";
import type { ErrorBody } from "../../protocol/generated";
import { errorBody } from "../../protocol/wire";
import { ErrorNote } from "../OtherPart";
import { listAudit, type AuditEntry, type AuditPage } from "./operations";

const exactly = (ms: number): string =>
  new Date(ms).toLocaleString(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });

const OUTCOMES: Readonly<Record<string, string>> = { ok: "Done", unknown: "Unknown: the gateway stopped" };

function Detail({ entry }: { entry: AuditEntry }) {
  if (entry.detail.length === 0) return null;
  return (
    <dl className="audit-detail">
      {entry.detail.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Row({ entry }: { entry: AuditEntry }) {
  const done = entry.outcome === "ok";
  return (
    <tr data-testid="audit-entry" data-action={entry.action}>
      <td>
        <time dateTime={new Date(entry.at).toISOString()}>{exactly(entry.at)}</time>
        <small className="muted">{entry.who}</small>
      </td>
      <th scope="row">
        <code>{entry.action}</code>
        <span>{entry.target}</span>
        <Detail entry={entry} />
      </th>
      <td>
        <span className={done ? "outcome" : "outcome refused"}>{OUTCOMES[entry.outcome] ?? `Refused: ${entry.outcome}`}</span>
        {entry.result !== "" && <code className="muted">{entry.result}</code>}
      </td>
    </tr>
  );
}

/** Pages one after the other; an answer to an earlier question is dropped. */
function usePages(search: string) {
  const [pages, setPages] = useState<readonly AuditPage[]>();
  const [error, setError] = useState<ErrorBody>();
  const asked = useRef(0);
  const load = (before: number, kept: readonly AuditPage[]) => {
    asked.current += 1;
    const question = asked.current;
    listAudit(search, before).then(
      (page) => {
        if (question !== asked.current) return;
        setPages([...kept, page]);
        setError(undefined);
      },
      (failure: unknown) => {
        if (question === asked.current) setError(errorBody(failure));
      },
    );
  };
  // eslint-disable-next-line react-hooks/exhaustive-deps -- the first page belongs to the text alone
  useEffect(() => load(0, []), [search]);
  const next = pages?.at(-1)?.next;
  const more = next === undefined ? undefined : () => load(next, pages ?? []);
  return { entries: pages?.flatMap((page) => page.entries), error, more };
}

function SearchField({ onSearch }: { onSearch: (search: string) => void }) {
  const [draft, setDraft] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    onSearch(draft.trim());
  };
  return (
    <form className="audit-search" role="search" onSubmit={submit}>
      <input
        className="field"
        type="search"
        aria-label="Only entries with this text"
        placeholder="key.create, user:ann …"
        data-testid="audit-search"
        maxLength={200}
        value={draft}
        onChange={(event) => {
          setDraft(event.target.value);
          // Emptied with the field's own cross.
          if (event.target.value === "") onSearch("");
        }}
      />
      <button type="submit" className="button small" data-testid="audit-search-go">
        <Search size={14} aria-hidden /> Search
      </button>
    </form>
  );
}

export function Audit() {
  const [search, setSearch] = useState("");
  const { entries, error, more } = usePages(search);
  return (
    <section className="usage-card" aria-labelledby="audit-title">
      <header className="audit-header">
        <h2 id="audit-title">Audit</h2>
        <SearchField onSearch={setSearch} />
      </header>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {!entries && !error && <p className="muted">Loading…</p>}
      {entries?.length === 0 && <p className="muted">{search === "" ? "Nothing was changed yet." : "No entry has this text."}</p>}
      {entries && entries.length > 0 && (
        <div className="table-scroll" role="region" aria-label="Audit entries" tabIndex={0}>
          <table className="usage-table keys-table audit-table">
            <thead>
              <tr>
                <th scope="col">When and who</th>
                <th scope="col">What</th>
                <th scope="col">Outcome</th>
              </tr>
            </thead>
            <tbody>
              {entries.map((entry) => (
                <Row key={entry.serial} entry={entry} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {more && (
        <button type="button" className="button small audit-more" data-testid="audit-more" onClick={more}>
          Show older entries
        </button>
      )}
    </section>
  );
}
