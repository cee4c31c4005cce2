//! `lodgectl`: administration of the gateway over its Unix socket.

mod accounts;
mod models;
mod moment;
mod ops;
mod preset;
mod setup;
mod upstream;
mod usage;
mod users;

use crate::commands::wait;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::table;
use crate::terminal::{print_json, println};
use clap::{Parser, Subcommand};
use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{HealthRequest, ListProvidersRequest, Provider, RemoveProviderKeyRequest};
use lodge_proto::{ErrorBody, ErrorCode, sock};
use serde_json::json;
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint, Uri};

const EXAMPLES: &str = "Examples:\n  lodgectl gateway health\n  lodgectl provider list --json\n  \
    lodgectl provider add anthropic < key-file\n  \
    lodgectl provider add ollama\n  \
    lodgectl provider add local --kind openai_compatible --base-url http://127.0.0.1:9000/v1 < key-file\n  \
    lodgectl provider test anthropic\n  lodgectl provider remove anthropic\n  lodgectl quota\n  \
    lodgectl gateway check\n  lodgectl gateway reload\n  lodgectl account add anthropic team < key-file\n  \
    lodgectl alias set fast anthropic/claude-haiku-5-5 openai/gpt-5.6-luna\n  lodgectl models\n  \
    lodgectl policy set 'gpt-*' --deny='not for us'\n  lodgectl price set mine/m --input 2 --output 10\n  \
    lodgectl key create --user ann --budget 5usd --window month\n  \
    lodgectl user add ann --uid 1001 --team compilers --org acme\n  \
    lodgectl budget set user:ann 20usd --window month\n  lodgectl usage --by model --since 7d";

/// Administer a running Lodge.
#[derive(Debug, Parser)]
#[command(name = "lodgectl", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Data directory of the Lodge [default: lodge in the XDG data directory].
    #[arg(long, global = true, value_name = "DIR", env = "LODGE_DATA")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The gateway itself.
    #[command(subcommand)]
    Gateway(Gateway),
    /// Providers of models and their keys.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// The people, and the teams and organisations they belong to.
    #[command(subcommand)]
    User(users::UserCommand),
    /// Several keys or logins of one provider.
    #[command(subcommand)]
    Account(setup::AccountCommand),
    /// Names that stand for models.
    #[command(subcommand)]
    Alias(setup::AliasCommand),
    /// What is done to requests by model: refused, sent elsewhere, fields set.
    #[command(subcommand)]
    Policy(setup::PolicyCommand),
    /// Keys of people, for clients outside of Lodge's sessions.
    #[command(subcommand)]
    Key(accounts::KeyCommand),
    /// Limits in money, for users, teams, organisations, keys, sessions and providers.
    #[command(subcommand)]
    Budget(accounts::BudgetCommand),
    /// What was used and what it cost.
    Usage(usage::Usage),
    /// Who changed what: keys, budgets, providers, the configuration.
    Audit(ops::Audit),
    /// Requests that are under way.
    Requests(ops::Requests),
    /// The models there are: what they can do, what they cost, and which harnesses can use them.
    Models(models::Models),
    /// What models cost, and where their prices come from; prices of one's own.
    Price(setup::Price),
    /// Counters, as Prometheus reads them.
    Metrics,
    /// How each account of the providers fares, and what is left of its quotas.
    Quota {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Gateway {
    /// Where clients with a key of their own reach it.
    Address {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Whether it serves, and how many sessions hold a lease.
    Health {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reads the configuration again: providers, accounts, aliases and policies. An error changes nothing.
    Reload {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks a configuration file without taking it over: every error with its line and key.
    Check {
        /// [default: the one in the data directory].
        file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes a new key for what is stored sealed: provider keys and logins. The next start goes over to it, and keeps the
    /// one before until everything has.
    Reseal,
}

#[derive(Debug, Subcommand)]
enum ProviderCommand {
    /// The providers, and where each one's key comes from.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a provider. Its key is read from standard input, never from the command line, and stored sealed.
    ///
    /// `anthropic`, `openai`, `gemini` and `openrouter` need no more than a key; `ollama`, `vllm` and `llama-cpp` on this
    /// machine need nothing at all.
    Add(setup::Add),
    /// Forget a stored key, and with it a provider that is not in lodge.toml, its accounts and its prices.
    Remove { name: String },
    /// Ask a provider for its list of models with each of its accounts; free of charge.
    Test {
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Log into an account that has no key. The code that comes back is read from standard input.
    Login {
        name: String,
        account: String,
        /// With a code that is typed on another device.
        #[arg(long)]
        device: bool,
    },
}

/// Runs a command.
pub fn run(cli: &Cli) -> anyhow::Result<()> {
    let data = DataDir::resolve(cli.data.as_deref())?;
    let socket = data.admin_socket();
    match &cli.command {
        Command::User(command) => wait(users::user(&socket, command)),
        Command::Key(command) => wait(accounts::key(&socket, command)),
        Command::Budget(command) => wait(accounts::budget(&socket, command)),
        Command::Audit(audit) => wait(ops::audit(&socket, audit)),
        Command::Requests(requests) => wait(ops::requests(&socket, requests)),
        Command::Models(models) => wait(models::models(&socket, models)),
        Command::Price(price) => wait(setup::price(&socket, price)),
        Command::Account(command) => wait(setup::account(&socket, command)),
        Command::Alias(command) => wait(setup::alias(&socket, command)),
        Command::Policy(command) => wait(setup::policy(&socket, command)),
        Command::Metrics => wait(ops::metrics(&socket)),
        Command::Usage(usage) => wait(usage::usage(&socket, usage)),
        Command::Gateway(Gateway::Address { json }) => wait(address(&socket, *json)),
        Command::Gateway(Gateway::Health { json }) => wait(health(&socket, *json)),
        Command::Provider(ProviderCommand::List { json }) => wait(list(&socket, *json)),
        Command::Provider(ProviderCommand::Add(add)) => wait(setup::add(&socket, add)),
        Command::Provider(ProviderCommand::Remove { name }) => wait(remove(&socket, name)),
        Command::Provider(ProviderCommand::Test { name, json }) => wait(upstream::test(&socket, name, *json)),
        Command::Provider(ProviderCommand::Login {
            name,
            account,
            device,
        }) => wait(upstream::login(&socket, name, account, *device)),
        Command::Gateway(Gateway::Reload { json }) => wait(upstream::reload(&socket, *json)),
        Command::Gateway(Gateway::Check { file, json }) => wait(setup::check(&data, file.as_deref(), *json)),
        Command::Gateway(Gateway::Reseal) => wait(upstream::reseal(&socket)),
        Command::Quota { json } => wait(upstream::quota(&socket, *json)),
    }
}

pub(crate) async fn connect(socket: &Path) -> anyhow::Result<GatewayAdminClient<Channel>> {
    Ok(GatewayAdminClient::new(channel(socket).await?))
}

/// The gateway's administrative socket, for any of its services.
pub(crate) async fn channel(socket: &Path) -> anyhow::Result<Channel> {
    let path = socket.to_owned();
    // The name is needed for form; the connector knows where to go.
    let endpoint = Endpoint::from_static("http://gateway");
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            let stream = sock::connect(&path).map_err(std::io::Error::other)?;
            sock::require_peer(&stream, sock::own_uid()).map_err(std::io::Error::other)?;
            stream.set_nonblocking(true)?;
            std::io::Result::Ok(TokioIo::new(tokio::net::UnixStream::from_std(stream)?))
        }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|_| {
        Failure::new(ErrorCode::Unavailable, "the gateway does not answer")
            .at(socket.display().to_string())
            .mend("lodge up")
    })?;
    Ok(channel)
}

/// The code of a gRPC status: the first of ours that maps to it.
pub(crate) fn refused(status: &tonic::Status) -> anyhow::Error {
    let code = ErrorCode::ALL
        .iter()
        .copied()
        .find(|code| code.grpc_code() == status.code());
    ErrorBody::new(code.unwrap_or(ErrorCode::Internal), status.message()).into()
}

async fn address(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let answer = connect(socket).await?.health(HealthRequest {}).await;
    let address = answer.map_err(|status| refused(&status))?.into_inner().address;
    if address.is_empty() {
        let text = "the gateway accepts no keys of people";
        return Err(Failure::new(ErrorCode::Unavailable, text)
            .mend("set `listen` in [gateway] of lodge.toml")
            .into());
    }
    let url = format!("http://{address}");
    if as_json {
        return print_json(&json!({ "url": url, "admin": format!("unix:{}", socket.display()) }));
    }
    println(&url);
    Ok(())
}

async fn health(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let answer = connect(socket)
        .await?
        .health(HealthRequest {})
        .await
        .map_err(|status| refused(&status))?
        .into_inner();
    if as_json {
        return print_json(&json!({
            "version": answer.version, "open_leases": answer.open_leases, "config_error": answer.config_error,
        }));
    }
    println(&format!(
        "gateway {} serves {} sessions",
        answer.version, answer.open_leases
    ));
    if !answer.config_error.is_empty() {
        println(&format!(
            "the configuration file is not what is in force: {}",
            answer.config_error
        ));
    }
    Ok(())
}

async fn list(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let answer = connect(socket)
        .await?
        .list_providers(ListProvidersRequest {})
        .await;
    let providers = answer.map_err(|status| refused(&status))?.into_inner().providers;
    if as_json {
        return print_json(&providers.iter().map(as_value).collect::<Vec<_>>());
    }
    let row = |provider: &Provider| {
        let key = if provider.has_key {
            provider.key_source.clone()
        } else {
            "none".to_owned()
        };
        [
            provider.name.clone(),
            provider.kind.clone(),
            key,
            provider.models.len().to_string(),
            provider.base_url.clone(),
        ]
    };
    let rows: Vec<_> = providers.iter().map(row).collect();
    table::print(["NAME", "KIND", "KEY", "MODELS", "BASE URL"], &rows);
    Ok(())
}

fn as_value(provider: &Provider) -> serde_json::Value {
    let models: Vec<_> = provider.models.iter().map(|model| model.id.as_str()).collect();
    json!({
        "name": provider.name, "kind": provider.kind, "base_url": provider.base_url, "has_key": provider.has_key,
        "key_source": provider.key_source, "models": models,
    })
}

async fn remove(socket: &Path, name: &str) -> anyhow::Result<()> {
    let request = RemoveProviderKeyRequest {
        name: name.to_owned(),
    };
    connect(socket)
        .await?
        .remove_provider_key(request)
        .await
        .map_err(|status| refused(&status))?;
    println(&format!("the key of {name} is forgotten"));
    Ok(())
}
