//! A span for each attempt, with the names of the OpenTelemetry conventions for generative AI. No body is in it, and
//! nothing of whom it is for.

use tracing::Span;
use tracing::field::Empty;

use crate::dialect::{Operation, WireError};
use crate::ledger::How;
use crate::money::Nanos;
use crate::provider::{Kind, ProviderSpec};
use crate::telemetry::{Begun, Telemetry, Trace};
use crate::usage::{Seen, Usage};

/// One attempt: in the log, and for a collector where there is one. Dropped before it is over, it was given up.
#[derive(Debug)]
pub(super) struct Attempt {
    span: Span,
    exported: Option<Begun>,
}

impl Attempt {
    /// Begins when the attempt is reserved for.
    pub(super) fn begin(
        (telemetry, trace): (&Telemetry, Option<Trace>),
        provider: &ProviderSpec,
        model: &str,
        operation: &Operation,
    ) -> Self {
        let begin = |trace| {
            let (name, model) = (operation_name(operation), shown(model));
            let mut begun = telemetry.begin(Some(trace), format!("{name} {model}").trim_end().to_owned())?;
            begun.text("gen_ai.operation.name", name);
            begun.text("gen_ai.provider.name", well_known(provider));
            begun.text("gen_ai.request.model", model);
            begun.text("lodge.provider", provider.name.as_str());
            if provider.kind != Kind::Demo {
                let (host, port) = provider.base.server();
                begun.text("server.address", host);
                if let Some(port) = port {
                    begun.number("server.port", port.into());
                }
            }
            Some(begun)
        };
        Self {
            span: of(&provider.name, model, operation),
            exported: trace.and_then(begin),
        }
    }

    /// It has come to its end, or as far as it came.
    pub(super) fn settled(mut self, seen: &Seen, usage: &Usage, cost: Nanos, how: How) {
        settled(&self.span, usage, cost, how);
        let Some(mut begun) = self.exported.take() else {
            return;
        };
        if let Some(model) = &seen.model {
            begun.text("gen_ai.response.model", shown(model));
        }
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", usage.all_input()),
            ("gen_ai.usage.output_tokens", usage.output),
            ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
        ] {
            begun.number(key, tokens);
        }
        begun.number("lodge.cost_nano_usd", cost.0);
        begun.text("lodge.settled", how.as_str());
        begun.end((how == How::Aborted).then(|| "aborted".to_owned()));
    }

    /// The provider answered with an error, which costs nothing.
    pub(super) fn refused(self, status: u16) {
        self.ends(if status == 0 {
            "refused".to_owned()
        } else {
            status.to_string()
        });
    }

    /// There was no answer, and nothing was billed.
    pub(super) fn failed(self, error: &WireError) {
        let kind = match error.status {
            502 => "unreachable".to_owned(),
            504 => "timeout".to_owned(),
            status => status.to_string(),
        };
        self.ends(kind);
    }

    fn ends(mut self, error: String) {
        if let Some(begun) = self.exported.take() {
            begun.end(Some(error));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(begun) = self.exported.take() {
            begun.end(Some("cancelled".to_owned()));
        }
    }
}

/// The name that the conventions have for it, else that of the configuration.
fn well_known(provider: &ProviderSpec) -> &str {
    match provider.kind {
        Kind::Anthropic => "anthropic",
        Kind::Openai => "openai",
        Kind::Gemini => "gcp.gemini",
        Kind::OpenaiCompatible | Kind::Demo => &provider.name,
    }
}

fn operation_name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Embed { .. } => "embeddings",
        _ => "chat",
    }
}

fn shown(model: &str) -> String {
    model
        .chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect()
}

/// Begins when the attempt is reserved for, ends when it has settled. It is of the level `debug`.
fn of(provider: &str, model: &str, operation: &Operation) -> Span {
    let (name, model) = (operation_name(operation), shown(model));
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
fn settled(span: &Span, usage: &Usage, cost: Nanos, how: How) {
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
