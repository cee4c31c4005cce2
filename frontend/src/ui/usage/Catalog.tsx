/** The models there are, how much they read at a time, and what they cost. */
import { api } from "../../lib/http";
import { formatTokens } from "../../lib/format";
import { formatNanos } from "../../lib/money";
import { ErrorNote } from "../OtherPart";
import { readCatalog, type Model } from "./data";
import { useLoaded } from "./useLoaded";

async function load(): Promise<readonly Model[]> {
  const [models, prices] = await Promise.all([api("GET", "/models"), api("GET", "/prices")]);
  return readCatalog(models, prices);
}

function Row({ model }: { model: Model }) {
  const { price } = model;
  return (
    <tr data-testid="catalog-model">
      <th scope="row">{model.id}</th>
      <td>{model.contextWindow > 0 ? formatTokens(model.contextWindow) : "unknown"}</td>
      {price ? (
        <>
          <td>{formatNanos(price.input)}</td>
          <td>{formatNanos(price.output)}</td>
        </>
      ) : (
        <td colSpan={2}>unknown</td>
      )}
    </tr>
  );
}

export function Catalog() {
  const { value: models, error } = useLoaded(load);
  return (
    <section className="usage-card" aria-labelledby="catalog-title">
      <header>
        <h2 id="catalog-title">Models and prices</h2>
      </header>
      <p className="muted">Dollars per million tokens. A model whose price is unknown is refused where a budget applies.</p>
      {error && <ErrorNote code={error.code} message={error.message} />}
      {!models && !error && <p className="muted">Loading…</p>}
      {models?.length === 0 && <p className="muted">There is no model yet. Enter a provider’s key under Settings.</p>}
      {models && models.length > 0 && (
        <div className="table-scroll" role="region" aria-label="List of models" tabIndex={0}>
          <table className="usage-table">
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col">Context</th>
                <th scope="col">Input</th>
                <th scope="col">Output</th>
              </tr>
            </thead>
            <tbody>
              {models.map((model) => (
                <Row key={model.id} model={model} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}
