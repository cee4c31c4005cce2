//! `lodgectl alias` and `lodgectl policy`.

use super::{connect, done, origin, shown};
use crate::failure::Failure;
use crate::table;
use crate::terminal::print_json;
use clap::{Args, Subcommand};
use lodge_proto::ErrorCode;
use lodge_proto::control::{
    AliasSetup, PolicySetup, PutAliasRequest, PutPolicyRequest, RemoveAliasRequest, RemovePolicyRequest,
};
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Subcommand)]
pub(in crate::admin) enum AliasCommand {
    /// Have a name stand for models, in the order in which they are tried.
    Set {
        name: String,
        /// `PROVIDER/MODEL`, at most eight.
        #[arg(required = true, value_name = "PROVIDER/MODEL")]
        targets: Vec<String>,
        /// Under whose path it is asked for [default: the provider of the first target].
        #[arg(long)]
        provider: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The aliases, of lodge.toml and of lodgectl.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget an alias.
    Remove {
        name: String,
        /// Where several providers have one of this name.
        #[arg(long)]
        provider: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::admin) enum PolicyCommand {
    /// Say what is done to requests for the models of a pattern, in which `*` stands for any text.
    Set(Set),
    /// The policies, of lodge.toml and of lodgectl, in the order in which they are looked at.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget a policy, by its very patterns.
    Remove {
        #[arg(value_name = "GLOB")]
        model: String,
        /// [default: `*`].
        #[arg(long, value_name = "GLOB")]
        provider: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(in crate::admin) struct Set {
    #[arg(value_name = "GLOB")]
    model: String,
    /// Of these providers only [default: `*`].
    #[arg(long, value_name = "GLOB")]
    provider: Option<String>,
    /// Refuse the models, with this reason.
    #[arg(long, value_name = "REASON", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    deny: Option<String>,
    /// Send requests to another model of the same provider.
    #[arg(long, value_name = "MODEL")]
    rewrite: Option<String>,
    /// Set a field of the request's body: a dotted path and JSON, such as `metadata.team="blue"`. Several times, for several.
    #[arg(long = "set-field", value_name = "PATH=JSON", value_parser = field)]
    fields: Vec<(String, String)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn field(text: &str) -> Result<(String, String), String> {
    let (path, json) = text
        .split_once('=')
        .ok_or("is written as a path and JSON: `temperature=0.2`")?;
    match serde_json::from_str::<Value>(json) {
        Ok(_) => Ok((path.to_owned(), json.to_owned())),
        Err(error) => Err(format!(
            "`{json}` is not JSON ({error}); a text needs quotes: `{path}=\"…\"`"
        )),
    }
}

/// Runs one of the commands about aliases.
pub(in crate::admin) async fn alias(socket: &Path, command: &AliasCommand) -> anyhow::Result<()> {
    match command {
        AliasCommand::Set {
            name,
            targets,
            provider,
            json,
        } => {
            let alias = AliasSetup {
                provider: provider.clone().unwrap_or_default(),
                name: name.clone(),
                targets: targets.clone(),
                ..AliasSetup::default()
            };
            let request = PutAliasRequest { alias: Some(alias) };
            let answer = connect(socket).await?.put_alias(request).await;
            let text = format!("{name} stands for {}", targets.join(", then "));
            done(
                answer,
                *json,
                &text,
                &json!({ "alias": name, "targets": targets }),
            )
        }
        AliasCommand::List { json } => list_aliases(socket, *json).await,
        AliasCommand::Remove { name, provider, json } => {
            let request = RemoveAliasRequest {
                provider: provider.clone().unwrap_or_default(),
                name: name.clone(),
            };
            let answer = connect(socket).await?.remove_alias(request).await;
            let text = format!("{name} stands for nothing else any more");
            done(answer, *json, &text, &json!({ "alias": name, "removed": true }))
        }
    }
}

async fn list_aliases(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let aliases = shown(socket).await?.aliases;
    if as_json {
        let value = |alias: &AliasSetup| {
            json!({
                "provider": alias.provider, "alias": alias.name, "targets": alias.targets,
                "origin": alias.origin, "shadowed": alias.shadowed,
            })
        };
        return print_json(&aliases.iter().map(value).collect::<Vec<_>>());
    }
    let row = |alias: &AliasSetup| {
        [
            alias.provider.clone(),
            alias.name.clone(),
            alias.targets.join(", "),
            origin(&alias.origin, alias.shadowed),
        ]
    };
    let rows: Vec<_> = aliases.iter().map(row).collect();
    table::print(["PROVIDER", "ALIAS", "STANDS FOR", "FROM"], &rows);
    Ok(())
}

/// Runs one of the commands about policies.
pub(in crate::admin) async fn policy(socket: &Path, command: &PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Set(set) => {
            if set.deny.is_none() && set.rewrite.is_none() && set.fields.is_empty() {
                let what = format!("the policy of {} would do nothing", set.model);
                let failure = Failure::new(ErrorCode::InvalidArgument, what);
                return Err(failure.mend("give --deny, --rewrite or --set-field").into());
            }
            let policy = PolicySetup {
                provider: set.provider.clone().unwrap_or_default(),
                model: set.model.clone(),
                deny: set.deny.clone(),
                rewrite: set.rewrite.clone().unwrap_or_default(),
                set: set.fields.iter().cloned().collect(),
                ..PolicySetup::default()
            };
            let text = format!("{}: {}", set.model, effect(&policy));
            let value = policy_value(&policy);
            let request = PutPolicyRequest { policy: Some(policy) };
            let answer = connect(socket).await?.put_policy(request).await;
            done(answer, set.json, &text, &value)
        }
        PolicyCommand::List { json } => list_policies(socket, *json).await,
        PolicyCommand::Remove {
            model,
            provider,
            json,
        } => {
            let request = RemovePolicyRequest {
                provider: provider.clone().unwrap_or_default(),
                model: model.clone(),
            };
            let answer = connect(socket).await?.remove_policy(request).await;
            let text = format!("the policy of {model} is forgotten");
            done(answer, *json, &text, &json!({ "model": model, "removed": true }))
        }
    }
}

fn effect(policy: &PolicySetup) -> String {
    let mut effects = Vec::new();
    match policy.deny.as_deref() {
        None => {}
        Some("") => effects.push("denied".to_owned()),
        Some(reason) => effects.push(format!("denied: {reason}")),
    }
    if !policy.rewrite.is_empty() {
        effects.push(format!("sent to {}", policy.rewrite));
    }
    let mut fields: Vec<String> = policy
        .set
        .iter()
        .map(|(path, json)| format!("{path}={json}"))
        .collect();
    fields.sort();
    effects.extend(fields);
    effects.join(", ")
}

fn policy_value(policy: &PolicySetup) -> Value {
    let set: serde_json::Map<String, Value> = policy
        .set
        .iter()
        .map(|(path, json)| (path.clone(), serde_json::from_str(json).unwrap_or_default()))
        .collect();
    json!({
        "provider": if policy.provider.is_empty() { "*" } else { &policy.provider }, "model": policy.model,
        "deny": policy.deny, "rewrite": (!policy.rewrite.is_empty()).then_some(&policy.rewrite), "set": set,
    })
}

async fn list_policies(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let policies = shown(socket).await?.policies;
    if as_json {
        let value = |policy: &PolicySetup| {
            let mut value = policy_value(policy);
            value["origin"] = policy.origin.clone().into();
            value["shadowed"] = policy.shadowed.into();
            value
        };
        return print_json(&policies.iter().map(value).collect::<Vec<_>>());
    }
    let row = |policy: &PolicySetup| {
        [
            policy.provider.clone(),
            policy.model.clone(),
            effect(policy),
            origin(&policy.origin, policy.shadowed),
        ]
    };
    let rows: Vec<_> = policies.iter().map(row).collect();
    table::print(["PROVIDERS", "MODELS", "EFFECT", "FROM"], &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_json_and_the_error_says_how() {
        assert_eq!(field("a.b=1"), Ok(("a.b".into(), "1".into())));
        assert_eq!(field("a=\"x=y\""), Ok(("a".into(), "\"x=y\"".into())));
        assert!(field("a=blue").unwrap_err().contains("needs quotes"));
        assert!(field("a").is_err());
    }
}
