//! The most a request can cost, from what it says before anybody has counted a token.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Pricing;
use crate::dialect::{Dialect, Operation, WireError};
use crate::money::Nanos;
use crate::provider::ProviderSpec;
use crate::usage::Usage;

/// What a provider adds to a prompt: marks around messages, the text that explains tools.
const OVERHEAD: u64 = 4096;
/// Searches of one answer, where tools that run at the provider are allowed.
const SEARCHES: u64 = 20;

/// What a request says about its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub model: String,
    /// Bytes of the body: no token is shorter than a byte.
    pub bytes: u64,
    /// Most output tokens of one answer; none where the request does not say.
    pub output: Option<u64>,
    /// Answers asked for.
    pub answers: u64,
    /// Something is named by its address: its size is anybody's guess.
    pub by_reference: bool,
    /// The provider may search the web on its own: what it finds goes in as input.
    pub searches: bool,
    /// The model may think without showing it.
    pub hidden: bool,
    /// The service tier asked for.
    pub tier: Option<String>,
    /// A field that changes the price in a way no table here knows.
    pub surcharge: Option<&'static str>,
}

#[derive(Deserialize)]
struct Peek {
    model: Option<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    thinking: Option<Thinking>,
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<IgnoredAny>,
    #[serde(rename = "generationConfig", alias = "generation_config")]
    generation: Option<Generation>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: Option<String>,
    budget_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(rename = "maxOutputTokens", alias = "max_output_tokens")]
    output: Option<u64>,
    #[serde(rename = "candidateCount", alias = "candidate_count")]
    candidates: Option<u64>,
}

impl Asked {
    /// Reads a request that generates. A field that comes twice is an error: parsers differ in which one they take.
    pub fn read(dialect: Dialect, operation: &Operation, body: &[u8]) -> Result<Self, WireError> {
        let peek: Peek = serde_json::from_slice(body)
            .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))?;
        let in_path = match operation {
            Operation::Generate { model, .. } => model.clone(),
            _ => None,
        };
        // A request without one is the provider's to refuse; nobody knows what it costs.
        let model = in_path.or(peek.model).unwrap_or_default();
        let thinking = peek.thinking.as_ref();
        let hidden = match dialect {
            Dialect::Messages => {
                thinking.is_some_and(|thinking| thinking.kind.as_deref() != Some("disabled"))
            }
            _ => true,
        };
        let output = match dialect {
            Dialect::Chat => peek.max_completion_tokens.max(peek.max_tokens),
            Dialect::Responses => peek.max_output_tokens,
            Dialect::Messages => peek
                .max_tokens
                .map(|most| most.max(thinking.and_then(|thinking| thinking.budget_tokens).unwrap_or(0))),
            Dialect::Gemini => peek.generation.as_ref().and_then(|config| config.output),
        };
        let candidates = peek.generation.and_then(|config| config.candidates);
        let answers = match dialect {
            Dialect::Chat => peek.n,
            Dialect::Gemini => candidates,
            Dialect::Responses | Dialect::Messages => None,
        };
        let fast = peek
            .speed
            .is_some_and(|speed| speed != "standard")
            .then_some("speed");
        Ok(Self {
            model,
            bytes: body.len() as u64,
            output,
            answers: answers.unwrap_or(1).max(1),
            by_reference: names_an_address(body),
            searches: false,
            hidden,
            tier: peek.service_tier.filter(|tier| tier.len() <= 32),
            surcharge: fast.or(peek.inference_geo.is_some().then_some("inference_geo")),
        })
    }
}

/// Whether the body may name an image, a file or a video by its address. Spellings differ too much for a list of
/// fields, so every string that begins like an address counts in a body that has such a field at all.
fn names_an_address(body: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
    let field = [
        "image_url",
        "file_url",
        "fileUri",
        "file_uri",
        "\"url\"",
        "\"file_id\"",
        "video_url",
    ];
    let escaped = has("\\u00") || has("\\/");
    let address = ["\"http", "\"gs:", "\"file_id\"", "\"https"].into_iter().any(has);
    field.into_iter().any(has) && (address || escaped)
}

/// The most a request can cost, and what it was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub input: u64,
    pub output: u64,
    pub amount: Nanos,
}

impl Bound {
    /// None where neither the request nor anything known of the model says how long an answer can be.
    pub fn of(asked: &Asked, provider: &ProviderSpec, pricing: &Pricing) -> Option<Self> {
        let listed = provider.models.iter().find(|listed| listed.id == asked.model);
        let known = |tokens: u64| (tokens > 0).then_some(tokens);
        let window = listed
            .and_then(|listed| known(listed.context_window))
            .or_else(|| super::context_window(provider, &asked.model));
        let longest = listed.and_then(|listed| known(listed.max_output)).or(window);
        let by_bytes = asked.bytes.saturating_add(OVERHEAD);
        let input = if asked.by_reference || asked.searches {
            by_bytes.max(window?)
        } else {
            by_bytes
        };
        let output = asked.output.or(longest)?.saturating_mul(asked.answers);
        Some(Self {
            input,
            output,
            amount: Self::dearest(asked, pricing, input, output),
        })
    }

    /// The dearest reading: everything fresh, written to a cache, or thought; on the dearest tier it may get.
    pub fn dearest(asked: &Asked, pricing: &Pricing, input: u64, output: u64) -> Nanos {
        let plain = Usage {
            input,
            output,
            web_searches: if asked.searches { SEARCHES } else { 0 },
            ..Usage::default()
        };
        let written = Usage {
            input: 0,
            cache_write: input,
            ..plain
        };
        let readings = [
            plain,
            Usage {
                reasoning: output,
                ..plain
            },
            written,
            Usage {
                cache_write_1h: input,
                ..written
            },
        ];
        let tiers = match asked.tier.as_deref() {
            None | Some("default" | "standard" | "flex" | "standard_only") => [None, None],
            Some(tier) => [Some("priority"), Some(tier)],
        };
        let prices = readings.iter().flat_map(|usage| {
            [
                pricing.cost(usage, None),
                pricing.cost(usage, tiers[0]),
                pricing.cost(usage, tiers[1]),
            ]
        });
        prices.max().unwrap_or(Nanos::ZERO)
    }
}
