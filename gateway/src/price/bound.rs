//! The most a request can cost, from what it says before anybody has counted a token.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::Pricing;
use crate::dialect::{Dialect, Operation, WireError};
use crate::money::Nanos;
use crate::provider::ProviderSpec;
use crate::usage::Usage;

/// What a provider adds to a prompt: marks around messages, the text that explains tools.
const OVERHEAD: u64 = 4096;

/// What policy says the tools cost that run at the provider, for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolBill {
    /// Nano-dollars a call: the dearest of those that the request names.
    pub per_call: u64,
    /// Calls that are reserved.
    pub most: u64,
    /// Nano-dollars whatever is called: for what the provider fetches by its address.
    pub flat: u64,
}

impl ToolBill {
    /// Of that many calls.
    pub fn cost(&self, calls: u64) -> Nanos {
        Nanos(self.per_call.saturating_mul(calls).saturating_add(self.flat))
    }
}

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
    /// The most calls of tools at the provider that the body allows for all of them together; none where it does not say.
    pub calls: Option<u64>,
    /// What those cost.
    pub tools: ToolBill,
    /// The model may think without showing it.
    pub hidden: bool,
    /// The service tier asked for.
    pub tier: Option<String>,
    /// It asks for something that changes the price in a way no table here knows.
    pub surcharge: Option<&'static str>,
}

#[derive(Deserialize)]
struct Peek {
    model: Option<String>,
    max_tokens: Option<Count>,
    max_completion_tokens: Option<Count>,
    max_output_tokens: Option<Count>,
    max_tool_calls: Option<Count>,
    n: Option<Count>,
    thinking: Option<Thinking>,
    #[serde(alias = "serviceTier")]
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
    #[serde(rename = "generationConfig", alias = "generation_config")]
    generation: Option<Generation>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: Option<String>,
    budget_tokens: Option<Count>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(rename = "maxOutputTokens", alias = "max_output_tokens")]
    output: Option<Count>,
    #[serde(rename = "candidateCount", alias = "candidate_count")]
    candidates: Option<Count>,
}

/// A number of tokens or answers. Clients write `1e2` and `100.0` too, and providers take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        if let Some(count) = number.as_u64() {
            return Ok(Self(count));
        }
        match number.as_f64() {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of floats saturates
            Some(float) if float >= 0.0 => Ok(Self(float.ceil() as u64)),
            _ => Err(D::Error::custom("a count is a number from 0")),
        }
    }
}

fn count(written: Option<Count>) -> Option<u64> {
    written.map(|count| count.0)
}

impl Asked {
    /// Reads a request that generates or embeds. A field that comes twice is an error: parsers differ in which one they take.
    pub fn read(dialect: Dialect, operation: &Operation, body: &[u8]) -> Result<Self, WireError> {
        let peek: Peek = serde_json::from_slice(body)
            .map_err(|error| WireError::invalid(format!("the request body cannot be read: {error}")))?;
        let in_path = match operation {
            Operation::Generate { model, .. } | Operation::Embed { model } => model.clone(),
            _ => None,
        };
        let embeds = matches!(operation, Operation::Embed { .. });
        // A request without one is the provider's to refuse; nobody knows what it costs.
        let model = in_path.or(peek.model).unwrap_or_default();
        let thinking = peek.thinking.as_ref();
        let hidden = match dialect {
            _ if embeds => false,
            Dialect::Messages => {
                thinking.is_some_and(|thinking| thinking.kind.as_deref() != Some("disabled"))
            }
            _ => true,
        };
        let output = match dialect {
            _ if embeds => Some(0),
            Dialect::Chat => count(peek.max_completion_tokens.max(peek.max_tokens)),
            Dialect::Responses => count(peek.max_output_tokens),
            Dialect::Messages => {
                let budget = thinking.and_then(|thinking| thinking.budget_tokens);
                peek.max_tokens.map(|most| Some(most).max(budget)).and_then(count)
            }
            Dialect::Gemini => count(peek.generation.as_ref().and_then(|config| config.output)),
        };
        let candidates = peek.generation.and_then(|config| config.candidates);
        let answers = match dialect {
            Dialect::Chat => peek.n,
            Dialect::Gemini => candidates,
            Dialect::Responses | Dialect::Messages => None,
        };
        Ok(Self {
            model,
            bytes: body.len() as u64,
            output,
            answers: count(answers).unwrap_or(1).max(1),
            by_reference: names_an_address(body),
            calls: count(peek.max_tool_calls),
            tools: ToolBill::default(),
            hidden,
            surcharge: surcharge(peek.speed.as_deref(), peek.inference_geo.as_deref()),
            tier: peek.service_tier,
        })
    }

    /// Why nobody knows what it costs at a model whose tokens have a price.
    pub(crate) fn unpriced(&self, pricing: &Pricing) -> Option<&'static str> {
        if pricing.is_free() {
            return None;
        }
        let is_known = match self.tiers() {
            [_, Some(_)] if self.tier.as_deref() == Some("auto") => true,
            tiers => tiers.iter().all(|tier| pricing.knows_tier(*tier)),
        };
        self.surcharge.or((!is_known).then_some(
            "nobody knows the price of the `service_tier` that it asks for; leave the field away, or ask for `default`",
        ))
    }

    /// The service tiers it may be billed at; none is what everybody gets who does not ask.
    fn tiers(&self) -> [Option<&str>; 2] {
        match self.tier.as_deref() {
            // Flex is never dearer.
            None | Some("default" | "standard" | "flex" | "standard_only") => [None, None],
            // The project's settings at the provider decide.
            Some("auto") => [None, Some("priority")],
            Some(tier) => [None, Some(tier)],
        }
    }
}

/// A field that changes the price in a way no table here knows, in words for the one who sent it.
fn surcharge(speed: Option<&str>, geo: Option<&str>) -> Option<&'static str> {
    if speed.is_some_and(|speed| speed != "standard") {
        return Some("nobody knows the price of the `speed` that it asks for; leave the field away");
    }
    geo.is_some_and(|geo| geo != "global")
        .then_some("nobody knows the price of the `inference_geo` that it asks for; leave the field away")
}

/// Whether the body may name an image, a file or a video by its address. Spellings differ too much for a list of
/// fields, so every string that begins like an address counts in a body that has such a field at all.
fn names_an_address(body: &[u8]) -> bool {
    let has = |text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
    // One of these is in every field below, and most bodies hold none: they are not looked through for each.
    if !["url", "Uri", "_uri", "\"file_id\""].into_iter().any(has) {
        return false;
    }
    let field = [
        "image_url",
        "file_url",
        "fileUri",
        "file_uri",
        "\"url\"",
        "\"file_id\"",
        "video_url",
    ];
    let marks = ["\"http", "\"gs:", "\"file_id\"", "\\u00", "\\/"];
    field.into_iter().any(has) && marks.into_iter().any(has)
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
        let calls = asked.tools.most;
        let once = if asked.by_reference || calls > 0 {
            by_bytes.max(window?)
        } else {
            by_bytes
        };
        // After each call of a tool the model reads all there is once more, and each reading is billed.
        let input = once.saturating_mul(calls.saturating_add(1));
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
        let tiers = asked.tiers();
        let prices = readings
            .iter()
            .flat_map(|usage| tiers.iter().map(|tier| pricing.cost(usage, *tier)));
        let tokens = prices.max().unwrap_or(Nanos::ZERO);
        tokens.plus(asked.tools.cost(asked.tools.most))
    }
}
