//! A span for each attempt, with the names of the OpenTelemetry conventions for generative AI. No body is in it, and
//! nothing of whom it is for.

use tracing::Span;
use tracing::field::Empty;

use crate::dialect::Operation;
use crate::ledger::How;
use crate::money::Nanos;
use crate::usage::Usage;

/// Begins when the attempt is reserved for, ends when it has settled. It is of the level `debug`.
pub(super) fn of(provider: &str, model: &str, operation: &Operation) -> Span {
    let name = match operation {
        Operation::Embed { .. } => "embeddings",
        _ => "chat",
    };
    let model: String = model
        .chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect();
    tracing::debug_span!(
        "gen_ai",
        otel.kind = "client",
        gen_ai.operation.name = name,
        gen_ai.provider.name = provider,
        gen_ai.request.model = model,
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        gen_ai.usage.cache_read.input_tokens = Empty,
        gen_ai.usage.cache_creation.input_tokens = Empty,
        lodge.cost_nano_usd = Empty,
        lodge.settled = Empty,
    )
}

/// What it came to, before the span ends.
pub(super) fn settled(span: &Span, usage: &Usage, cost: Nanos, how: How) {
    span.record("gen_ai.usage.input_tokens", usage.all_input());
    span.record("gen_ai.usage.output_tokens", usage.output);
    span.record("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
    span.record("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
    span.record("lodge.cost_nano_usd", cost.0);
    span.record("lodge.settled", how.as_str());
    tracing::debug!(parent: span, "settled");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_attempt_has_the_names_of_the_conventions() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = of("anthropic", "m\n", &Operation::Embed { model: None });
            let usage = Usage {
                input: 5,
                cache_read: 2,
                output: 7,
                ..Usage::default()
            };
            settled(&span, &usage, Nanos(9), How::Exact);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let span = &line["span"];
        for (name, value) in [
            ("gen_ai.operation.name", serde_json::json!("embeddings")),
            ("gen_ai.provider.name", "anthropic".into()),
            ("gen_ai.request.model", "m".into()),
            ("gen_ai.usage.input_tokens", 7.into()),
            ("gen_ai.usage.output_tokens", 7.into()),
            ("gen_ai.usage.cache_read.input_tokens", 2.into()),
            ("lodge.cost_nano_usd", 9.into()),
            ("lodge.settled", "exact".into()),
        ] {
            assert_eq!(span[name], value, "{name} in {line}");
        }
    }
}
