//! Everything that is set up, as the control protocol shows it: never a key.

use lodge_proto::control::{
    AccountSetup, AliasSetup, ModelSetup, OauthSetup, PolicySetup, PriceSetup, ProviderSetup,
    ShowSetupResponse,
};

use super::Entered;
use crate::config::KeySource;
use crate::price::Rates;
use crate::provider::{Account, Configured, DEFAULT_ACCOUNT, Kind, Model, ProviderSpec, Registry};
use crate::routes::{Alias, ModelPolicy};

const FILE: &str = "file";
const API: &str = "api";

/// What there is, of the file and entered, with what waits behind the file.
pub(crate) fn show(configured: &Configured, registry: &Registry) -> ShowSetupResponse {
    let entered = registry.entered();
    let (aliases, policies) = routes(configured, entered);
    ShowSetupResponse {
        providers: providers(configured, registry),
        accounts: accounts(configured, registry),
        aliases,
        policies,
        prices: prices(configured, entered),
        file: configured.file.display().to_string(),
    }
}

fn providers(configured: &Configured, registry: &Registry) -> Vec<ProviderSetup> {
    let there = registry.iter().filter(|provider| provider.kind != Kind::Demo);
    let shown = there.map(|provider| {
        let origin = origin(configured.find(&provider.name).is_some());
        match registry.entered().providers.get(&provider.name) {
            Some(setup) if origin == API => ProviderSetup {
                base_url: provider.base.to_string(),
                origin: origin.to_owned(),
                ..setup.clone()
            },
            _ => of_spec(provider, origin),
        }
    });
    let waiting = registry.entered().providers.values();
    let waiting = waiting.filter(|setup| configured.find(&setup.name).is_some());
    let waiting = waiting.map(|setup| ProviderSetup {
        origin: API.to_owned(),
        shadowed: true,
        ..setup.clone()
    });
    shown.chain(waiting).collect()
}

fn of_spec(provider: &ProviderSpec, origin: &str) -> ProviderSetup {
    let dollars = |nanos: u64| {
        #[allow(clippy::cast_precision_loss)] // at most $100
        let dollars = nanos as f64 / 1e9;
        dollars
    };
    let tools = provider.provider_tools.0.iter();
    ProviderSetup {
        name: provider.name.clone(),
        kind: provider.kind.as_str().to_owned(),
        base_url: provider.base.to_string(),
        insecure_http: false,
        responses: provider.responses,
        free: provider.free,
        add_usage: provider.add_usage,
        models: provider.models.iter().map(model).collect(),
        provider_tools: tools
            .map(|(name, nanos)| (name.clone(), dollars(*nanos)))
            .collect(),
        origin: origin.to_owned(),
        shadowed: false,
    }
}

fn model(model: &Model) -> ModelSetup {
    ModelSetup {
        id: model.id.clone(),
        name: model.name.clone(),
        context_window: model.context_window,
        max_output: model.max_output,
        reasoning: model.reasoning,
        images: model.images,
        tools: Some(model.tools),
        efforts: model.efforts.clone(),
    }
}

fn accounts(configured: &Configured, registry: &Registry) -> Vec<AccountSetup> {
    let mut shown = Vec::new();
    for provider in registry.iter().filter(|provider| provider.kind != Kind::Demo) {
        let of_file = configured.find(&provider.name);
        let in_file = |account: &Account| match account.name.as_str() {
            DEFAULT_ACCOUNT => of_file.is_some_and(|file| file.key.is_some()),
            name => of_file.is_some_and(|file| file.accounts.iter().any(|known| known.name == name)),
        };
        let in_use = provider
            .all_accounts()
            .into_iter()
            .map(|account| (account, false));
        let disabled = provider.disabled.iter().cloned().map(|account| (account, true));
        for (account, disabled) in in_use.chain(disabled) {
            let origin = origin(in_file(&account));
            shown.push(self::account(provider, &account, (disabled, origin)));
        }
        let entered = registry.entered().accounts.values().map(|(setup, _)| setup);
        let waiting = entered.filter(|setup| {
            let file = of_file.into_iter().flat_map(|file| &file.accounts);
            setup.provider == provider.name && file.into_iter().any(|known| known.name == setup.name)
        });
        shown.extend(waiting.map(|setup| AccountSetup {
            origin: API.to_owned(),
            shadowed: true,
            ..setup.clone()
        }));
    }
    shown
}

fn account(provider: &ProviderSpec, account: &Account, (disabled, origin): (bool, &str)) -> AccountSetup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let oauth = account.oauth.as_ref().map(|oauth| OauthSetup {
        client_id: oauth.client_id.clone(),
        authorize_url: text(&oauth.authorize_url),
        redirect_uri: oauth.redirect_uri.clone(),
        device_url: text(&oauth.device_url),
        token_url: oauth.token_url.clone(),
        scopes: oauth.scopes.clone(),
        beta: text(&oauth.beta),
    });
    let key_source = match (&account.key, account.name.as_str(), origin) {
        (None, ..) => KeySource::None.as_str(),
        (Some(_), DEFAULT_ACCOUNT, _) => provider.source.as_str(),
        (Some(_), _, API) => KeySource::Sealed.as_str(),
        (Some(_), ..) => FILE,
    };
    AccountSetup {
        provider: provider.name.clone(),
        name: account.name.clone(),
        disabled,
        oauth,
        origin: origin.to_owned(),
        shadowed: false,
        key_source: key_source.to_owned(),
    }
}

fn routes(configured: &Configured, entered: &Entered) -> (Vec<AliasSetup>, Vec<PolicySetup>) {
    let file = &configured.routes;
    let aliases = file.aliases.iter().map(alias);
    let more = entered.aliases.values().map(|setup| AliasSetup {
        origin: API.to_owned(),
        shadowed: file.alias(&setup.provider, &setup.name).is_some(),
        ..setup.clone()
    });
    let policies = file.policies.iter().map(policy);
    let others = entered.policies.values().map(|setup| PolicySetup {
        origin: API.to_owned(),
        shadowed: file.policy(&setup.provider, &setup.model).is_some(),
        ..setup.clone()
    });
    (aliases.chain(more).collect(), policies.chain(others).collect())
}

fn alias(alias: &Alias) -> AliasSetup {
    let targets = alias.targets.iter();
    AliasSetup {
        provider: alias.provider.clone(),
        name: alias.name.clone(),
        targets: targets
            .map(|target| format!("{}/{}", target.provider, target.model))
            .collect(),
        origin: FILE.to_owned(),
        shadowed: false,
    }
}

fn policy(policy: &ModelPolicy) -> PolicySetup {
    let set = policy.set.iter();
    PolicySetup {
        provider: policy.provider.clone(),
        model: policy.model.clone(),
        deny: policy.deny.clone(),
        rewrite: policy.rewrite.clone().unwrap_or_default(),
        set: set.map(|(path, json)| (path.join("."), json.clone())).collect(),
        origin: FILE.to_owned(),
        shadowed: false,
    }
}

fn prices(configured: &Configured, entered: &Entered) -> Vec<PriceSetup> {
    let mut shown = Vec::new();
    for provider in &configured.providers {
        let priced = provider
            .models
            .iter()
            .filter_map(|model| Some((model, model.price?)));
        shown.extend(priced.map(|(model, rates)| price(&provider.name, &model.id, rates)));
    }
    let of_file: Vec<_> = shown
        .iter()
        .map(|price: &PriceSetup| (price.provider.clone(), price.model.clone()))
        .collect();
    shown.extend(entered.prices.iter().map(|(pair, setup)| PriceSetup {
        origin: API.to_owned(),
        shadowed: of_file.contains(pair),
        ..setup.clone()
    }));
    shown
}

fn price(provider: &str, model: &str, rates: Rates) -> PriceSetup {
    PriceSetup {
        provider: provider.to_owned(),
        model: model.to_owned(),
        input: rates.input,
        output: rates.output,
        cache_read: Some(rates.cache_read),
        cache_write: Some(rates.cache_write),
        cache_write_1h: Some(rates.cache_write_1h),
        reasoning: Some(rates.reasoning),
        origin: FILE.to_owned(),
        shadowed: false,
    }
}

fn origin(in_file: bool) -> &'static str {
    if in_file { FILE } else { API }
}
