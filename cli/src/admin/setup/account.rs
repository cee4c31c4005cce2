//! `lodgectl account`: several keys or logins of one provider.

use super::{connect, done, key, origin, shown};
use crate::table;
use crate::terminal::print_json;
use clap::{Args, Subcommand};
use lodge_proto::control::{
    AccountSetup, EnableAccountRequest, OauthSetup, PutAccountRequest, RemoveAccountRequest,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(in crate::admin) enum AccountCommand {
    /// Add an account of a provider, or give it another key. The key is read from standard input, never from the command
    /// line, and stored sealed.
    Add(Add),
    /// The accounts, and where each one's key comes from.
    List {
        /// Only those of this provider.
        provider: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget an account with its key.
    Remove(Of),
    /// Take an account out of use for now; requests under way end as they began.
    Disable(Of),
    /// Use an account again.
    Enable(Of),
}

#[derive(Debug, Args)]
pub(in crate::admin) struct Of {
    provider: String,
    name: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::admin) struct Add {
    provider: String,
    name: String,
    /// Read the key from standard input, which is what happens without this too.
    #[arg(long, conflicts_with = "key_file")]
    key_stdin: bool,
    /// Read the key from this file instead.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// No key: it is logged into (`lodgectl provider login PROVIDER NAME`) as this client.
    #[arg(long, value_name = "ID", requires = "token_url", conflicts_with_all = ["key_stdin", "key_file"])]
    client_id: Option<String>,
    /// Where tokens come from.
    #[arg(long, value_name = "URL", requires = "client_id")]
    token_url: Option<String>,
    /// Where the person logs in (authorisation code with PKCE).
    #[arg(long, value_name = "URL", requires = "client_id")]
    authorize_url: Option<String>,
    /// Where the code comes back.
    #[arg(long, value_name = "URL", requires = "client_id")]
    redirect_uri: Option<String>,
    /// Where a device asks for a code (device flow).
    #[arg(long, value_name = "URL", requires = "client_id")]
    device_url: Option<String>,
    /// What is asked for; several times, for several.
    #[arg(long = "scope", value_name = "SCOPE", requires = "client_id")]
    scopes: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(in crate::admin) async fn account(socket: &Path, command: &AccountCommand) -> anyhow::Result<()> {
    match command {
        AccountCommand::Add(account) => add(socket, account).await,
        AccountCommand::List { provider, json } => list(socket, provider.as_deref(), *json).await,
        AccountCommand::Remove(of) => {
            let request = RemoveAccountRequest {
                provider: of.provider.clone(),
                name: of.name.clone(),
            };
            let answer = connect(socket).await?.remove_account(request).await;
            let text = format!("{}: {} is forgotten", of.provider, of.name);
            done(answer, of.json, &text, &of.value(None))
        }
        AccountCommand::Disable(of) => enable(socket, of, false).await,
        AccountCommand::Enable(of) => enable(socket, of, true).await,
    }
}

impl Of {
    fn value(&self, disabled: Option<bool>) -> Value {
        let mut value = json!({ "provider": self.provider, "account": self.name });
        match disabled {
            Some(disabled) => value["disabled"] = disabled.into(),
            None => value["removed"] = true.into(),
        }
        value
    }
}

async fn enable(socket: &Path, of: &Of, enabled: bool) -> anyhow::Result<()> {
    let request = EnableAccountRequest {
        provider: of.provider.clone(),
        name: of.name.clone(),
        enabled,
    };
    let answer = connect(socket).await?.enable_account(request).await;
    let is = if enabled { "used again" } else { "out of use" };
    let text = format!("{}: {} is {is}", of.provider, of.name);
    done(answer, of.json, &text, &of.value(Some(!enabled)))
}

async fn add(socket: &Path, add: &Add) -> anyhow::Result<()> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let oauth = add.client_id.as_ref().map(|client_id| OauthSetup {
        client_id: client_id.clone(),
        authorize_url: text(&add.authorize_url),
        redirect_uri: text(&add.redirect_uri),
        device_url: text(&add.device_url),
        token_url: text(&add.token_url),
        scopes: add.scopes.clone(),
        beta: String::new(),
    });
    let Add { provider, name, .. } = add;
    let key = match &oauth {
        Some(_) => String::new(),
        None => key::read(
            add.key_file.as_deref(),
            &format!("lodgectl account add {provider} {name}"),
        )?,
    };
    let said = match &oauth {
        Some(_) => format!("{provider}: {name} is added; now: lodgectl provider login {provider} {name}"),
        None => format!("{provider}: the key of {name} is stored, sealed"),
    };
    let value = json!({ "provider": provider, "account": name, "has_key": oauth.is_none() });
    let request = PutAccountRequest {
        account: Some(AccountSetup {
            provider: provider.clone(),
            name: name.clone(),
            oauth,
            ..AccountSetup::default()
        }),
        key,
        sealed: None,
    };
    let answer = connect(socket).await?.put_account(request).await;
    done(answer, add.json, &said, &value)
}

async fn list(socket: &Path, provider: Option<&str>, as_json: bool) -> anyhow::Result<()> {
    let accounts = shown(socket).await?.accounts.into_iter();
    let is_meant = |account: &AccountSetup| provider.is_none_or(|provider| provider == account.provider);
    let accounts: Vec<AccountSetup> = accounts.filter(is_meant).collect();
    let key = |account: &AccountSetup| match &account.oauth {
        Some(_) => "login".to_owned(),
        None => account.key_source.clone(),
    };
    if as_json {
        let value = |account: &AccountSetup| {
            json!({
                "provider": account.provider, "account": account.name, "disabled": account.disabled,
                "key": key(account), "origin": account.origin, "shadowed": account.shadowed,
            })
        };
        return print_json(&accounts.iter().map(value).collect::<Vec<_>>());
    }
    let row = |account: &AccountSetup| {
        let state = if account.disabled { "disabled" } else { "in use" };
        [
            account.provider.clone(),
            account.name.clone(),
            key(account),
            state.to_owned(),
            origin(&account.origin, account.shadowed),
        ]
    };
    let rows: Vec<_> = accounts.iter().map(row).collect();
    table::print(["PROVIDER", "ACCOUNT", "KEY", "STATE", "FROM"], &rows);
    Ok(())
}
