use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::KeySource;
use crate::dialect::{Dialect, Operation};
use crate::provider::{BaseUrl, Model};
use crate::secret::Secret;

fn november() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_000_000)
}

pub(crate) fn provider(kind: Kind, url: &str) -> ProviderSpec {
    let key = zeroize::Zeroizing::new("sk-x".to_owned());
    ProviderSpec {
        name: "p".into(),
        kind,
        base: BaseUrl::parse(kind, url, true).unwrap(),
        source: KeySource::Sealed,
        key: Some(Secret::parse(&key).unwrap()),
        models: kind.default_models(),
        listed_at: 0,
        provider_tools: crate::asked::ProviderTools::default(),
        accounts: Vec::new(),
        disabled: Vec::new(),
        prices: std::collections::BTreeMap::new(),
        responses: false,
        free: false,
        add_usage: false,
    }
}

fn anthropic() -> ProviderSpec {
    provider(Kind::Anthropic, "https://api.anthropic.com")
}

fn asked(body: &str) -> Asked {
    let generate = Operation::Generate {
        model: None,
        sse: None,
    };
    Asked::read(Dialect::Messages, &generate, body.as_bytes()).unwrap()
}

#[test]
fn classes_of_tokens_have_their_own_prices() {
    let pricing = Pricing::find(&anthropic(), "claude-sonnet-5-5", november()).unwrap();
    assert_eq!(pricing.version(), TABLE);
    let million = 1_000_000;
    let dollars = |usage: Usage| pricing.cost(&usage, None).to_string();
    let none = Usage::default();
    assert_eq!(
        dollars(Usage {
            input: million,
            ..none
        }),
        "$2.00"
    );
    assert_eq!(
        dollars(Usage {
            cache_read: million,
            ..none
        }),
        "$0.10"
    );
    assert_eq!(
        dollars(Usage {
            cache_write: million,
            ..none
        }),
        "$2.50"
    );
    let hour = Usage {
        cache_write: million,
        cache_write_1h: million,
        ..none
    };
    assert_eq!(dollars(hour), "$4.00");
    assert_eq!(
        dollars(Usage {
            output: million,
            reasoning: 1000,
            ..none
        }),
        "$10.00"
    );
    assert_eq!(
        dollars(Usage {
            web_searches: 1000,
            ..none
        }),
        "$10.00"
    );
}

#[test]
fn long_prompts_and_service_tiers_cost_more() {
    let openai = provider(Kind::Openai, "https://api.openai.com/v1");
    let pricing = Pricing::find(&openai, "gpt-5.6-sol", november()).unwrap();
    let long = Usage {
        input: 300_000,
        output: 1000,
        ..Usage::default()
    };
    assert_eq!(pricing.cost(&long, None), Nanos(2_430_000_000));
    let short = Usage {
        input: 100_000,
        ..Usage::default()
    };
    assert_eq!(pricing.cost(&short, None), Nanos(400_000_000));
    assert_eq!(pricing.cost(&short, Some("priority")), Nanos(800_000_000));
    assert_eq!(pricing.cost(&short, Some("flex")), Nanos(200_000_000));
}

#[test]
fn a_price_is_found_or_it_is_unknown() {
    assert!(Pricing::find(&anthropic(), "claude-of-tomorrow-99", november()).is_none());
    let router = provider(Kind::OpenaiCompatible, "https://openrouter.ai/api/v1");
    assert!(Pricing::find(&router, "anthropic/claude-sonnet-4.5", november()).is_some());
    let unknown = provider(Kind::OpenaiCompatible, "https://llm.example.org/v1");
    assert!(Pricing::find(&unknown, "gpt-5", november()).is_none());
    let mut own = unknown;
    own.key = None;
    assert!(Pricing::find(&own, "anything", november()).unwrap().is_free());
    // A provider that is only logged into, or has keys of accounts only, bills all the same.
    own.accounts = vec![crate::provider::Account {
        name: "team".into(),
        key: None,
        oauth: None,
    }];
    assert!(!own.is_free() && Pricing::find(&own, "anything", november()).is_none());
}

#[test]
fn the_configuration_goes_before_the_table() {
    let mut own = anthropic();
    let price = toml::from_str("input = 3\noutput = 15.5\ncache_read = 0.075").unwrap();
    own.models = vec![Model {
        price: Some(price),
        ..Kind::Anthropic.default_models()[1].clone()
    }];
    let pricing = Pricing::find(&own, "claude-sonnet-5-5", november()).unwrap();
    let usage = Usage {
        input: 1,
        cache_read: 1,
        cache_write: 2,
        cache_write_1h: 1,
        output: 1,
        ..Usage::default()
    };
    assert_eq!(
        pricing.cost(&usage, None),
        Nanos(3000 + 75 + 3750 + 6000 + 15_500)
    );
    assert_eq!(pricing.version(), "configuration");
    for bad in [
        "input = -1\noutput = 1",
        "input = nan\noutput = 1",
        "input = 1",
        "input = 1\noutput = 1\nx = 1",
    ] {
        assert!(toml::from_str::<Rates>(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_bound_is_the_dearest_reading() {
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1000,"thinking":{"type":"adaptive"}}"#;
    let asked = asked(body);
    assert!(asked.hidden && !asked.by_reference);
    let pricing = Pricing::find(&anthropic(), &asked.model, november()).unwrap();
    let bound = Bound::of(&asked, &anthropic(), &pricing).unwrap();
    let input = body.len() as u64 + 4096;
    // An hour's cache write at $4, output at $10.
    assert_eq!((bound.input, bound.output), (input, 1000));
    assert_eq!(bound.amount, Nanos(input * 4000 + 10_000_000));
}

#[test]
fn what_is_named_by_address_may_fill_the_window() {
    let body = r#"{"model":"claude-sonnet-5-5","max_tokens":1,"messages":[{"role":"user","content":[
        {"type":"document","source":{"type":"url","url":"https://example.org/long.pdf"}}]}]}"#;
    let asked = asked(body);
    assert!(asked.by_reference);
    let pricing = Pricing::find(&anthropic(), &asked.model, november()).unwrap();
    assert_eq!(
        Bound::of(&asked, &anthropic(), &pricing).unwrap().input,
        1_000_000
    );
}

#[test]
fn output_is_bounded_by_the_request_or_the_model_or_not_at_all() {
    let read = |dialect, body: &str| {
        let operation = Operation::Generate {
            model: None,
            sse: None,
        };
        Asked::read(dialect, &operation, body.as_bytes()).unwrap()
    };
    let chat = read(
        Dialect::Chat,
        r#"{"model":"m","n":3,"max_tokens":5,"max_completion_tokens":7}"#,
    );
    assert_eq!((chat.output, chat.answers), (Some(7), 3));
    let gemini = read(
        Dialect::Gemini,
        r#"{"model":"m","generationConfig":{"maxOutputTokens":9,"candidateCount":2}}"#,
    );
    assert_eq!((gemini.output, gemini.answers), (Some(9), 2));
    assert_eq!(
        read(Dialect::Responses, r#"{"model":"m","max_output_tokens":4}"#).output,
        Some(4)
    );
    let own = provider(Kind::OpenaiCompatible, "https://llm.example.org/v1");
    let endless = read(Dialect::Chat, r#"{"model":"m"}"#);
    assert_eq!(Bound::of(&endless, &own, &Pricing::Free), None);
    let operation = Operation::Generate {
        model: None,
        sse: None,
    };
    for bad in [
        "[]",
        r#"{"model":"m","max_tokens":1,"max_tokens":2}"#,
        r#"{"model":"m","max_tokens":-1}"#,
    ] {
        assert_eq!(
            Asked::read(Dialect::Chat, &operation, bad.as_bytes())
                .unwrap_err()
                .status,
            400,
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn no_usage_within_a_bound_costs_more(
        which in any::<prop::sample::Index>(),
        input in 0_u64..2_000_000,
        output in 0_u64..200_000,
        parts in (0_u64..101, 0_u64..101, 0_u64..101, 0_u64..101),
    ) {
        let kinds = [
            (Kind::Anthropic, "https://api.anthropic.com"),
            (Kind::Openai, "https://api.openai.com/v1"),
            (Kind::Gemini, "https://generativelanguage.googleapis.com"),
        ];
        let models: Vec<(ProviderSpec, String)> = kinds
            .iter()
            .flat_map(|(kind, url)| {
                let spec = provider(*kind, url);
                kind.default_models().into_iter().map(move |model| (spec.clone(), model.id))
            })
            .collect();
        let (spec, model) = which.get(&models);
        let pricing = Pricing::find(spec, model, november()).unwrap();
        let amount = Bound::dearest(
            &Asked { model: model.clone(), bytes: 0, output: None, answers: 1, by_reference: false, hidden: true,
                calls: None, tools: ToolBill::default(), tier: None, surcharge: None },
            &pricing, input, output,
        );
        let (read, written, hour, thought) = parts;
        let cache_read = input * read / 100;
        let cache_write = (input - cache_read) * written / 100;
        let used = Usage {
            input: input - cache_read - cache_write,
            cache_read,
            cache_write,
            cache_write_1h: cache_write * hour / 100,
            output,
            reasoning: output * thought / 100,
            web_searches: 0,
        };
        prop_assert!(pricing.cost(&used, None) <= amount);
    }
}
