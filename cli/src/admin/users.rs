//! `lodgectl user`

use super::{channel, refused};
use crate::failure::Failure;
use crate::table;
use crate::terminal::{print_json, println};
use clap::{Args, Subcommand};
use lodge_proto::ErrorCode;
use lodge_proto::control::gateway_users_client::GatewayUsersClient;
use lodge_proto::control::{ListBudgetsRequest, ListUsersRequest, RemoveUserRequest, SetUserRequest, User};
use serde_json::{Value, json};
use std::path::Path;
use tonic::transport::Channel;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user: sessions of its uid and keys made for its name spend from budgets of the user, its team and its
    /// organisation.
    Add {
        /// For good: budgets and usage go by it.
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The users there are.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What is known of a user, and the budgets it spends from.
    Show {
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a user; it holds from the next request on. What is not named stays as it is.
    Set {
        name: String,
        #[command(flatten)]
        fields: Fields,
        /// The sessions of its uid are not the user's any more.
        #[arg(long, conflicts_with = "uid")]
        no_uid: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget a user. Its budgets and usage stay; its uid's sessions go on as those of the uid.
    Remove { name: String },
}

#[derive(Debug, Args)]
pub(super) struct Fields {
    /// The Linux user whose sessions are this user's.
    #[arg(long)]
    uid: Option<u32>,
    /// `""`: none.
    #[arg(long)]
    team: Option<String>,
    /// The organisation; `""`: none.
    #[arg(long, visible_alias = "organisation")]
    org: Option<String>,
    /// A name for people.
    #[arg(long)]
    title: Option<String>,
    /// Requests a minute of all sessions and keys together; 0: any number.
    #[arg(long)]
    rpm: Option<u32>,
    /// Tokens a minute; 0: any number.
    #[arg(long)]
    tpm: Option<u32>,
    /// Requests at a time; 0: any number.
    #[arg(long)]
    concurrency: Option<u32>,
}

impl Fields {
    fn request(&self, name: &str, create: bool, no_uid: bool) -> SetUserRequest {
        SetUserRequest {
            name: name.to_owned(),
            create,
            title: self.title.clone(),
            uid: self.uid.map(i64::from).or(no_uid.then_some(-1)),
            team: self.team.clone(),
            org: self.org.clone(),
            rpm: self.rpm,
            tpm: self.tpm,
            concurrency: self.concurrency,
        }
    }
}

async fn connect(socket: &Path) -> anyhow::Result<GatewayUsersClient<Channel>> {
    Ok(GatewayUsersClient::new(channel(socket).await?).max_decoding_message_size(64 << 20))
}

/// Runs a command about users.
pub(super) async fn user(socket: &Path, command: &UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { name, fields, json } => {
            let user = set(socket, fields.request(name, true, false)).await?;
            told(&user, "added", *json)
        }
        UserCommand::Set {
            name,
            fields,
            no_uid,
            json,
        } => {
            let request = fields.request(name, false, *no_uid);
            let nothing = SetUserRequest {
                name: name.clone(),
                ..SetUserRequest::default()
            };
            if request == nothing {
                let text = "nothing to change: name at least one of --uid, --no-uid, --team, --org, --title, --rpm, \
                            --tpm, --concurrency";
                return Err(Failure::new(ErrorCode::InvalidArgument, text).into());
            }
            let user = set(socket, request).await?;
            told(&user, "changed", *json)
        }
        UserCommand::List { json } => list(socket, *json).await,
        UserCommand::Show { name, json } => show(socket, name, *json).await,
        UserCommand::Remove { name } => {
            let request = RemoveUserRequest { name: name.clone() };
            let removed = connect(socket).await?.remove_user(request).await;
            removed.map_err(|status| refused(&status))?;
            println(&format!("{name} is removed; budgets and usage of that name stay"));
            Ok(())
        }
    }
}

async fn set(socket: &Path, request: SetUserRequest) -> anyhow::Result<User> {
    let set = connect(socket).await?.set_user(request).await;
    let set = set.map_err(|status| refused(&status))?.into_inner();
    Ok(set.user.unwrap_or_default())
}

fn told(user: &User, what: &str, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(&value(user));
    }
    let belongs = [
        user.uid.map(|uid| format!("uid {uid}")),
        (!user.team.is_empty()).then(|| format!("team {}", user.team)),
        (!user.org.is_empty()).then(|| format!("organisation {}", user.org)),
    ];
    let belongs: Vec<String> = belongs.into_iter().flatten().collect();
    let belongs = if belongs.is_empty() {
        String::new()
    } else {
        format!(" ({})", belongs.join(", "))
    };
    println(&format!("{} is {what}{belongs}", user.name));
    Ok(())
}

async fn users(socket: &Path) -> anyhow::Result<Vec<User>> {
    let listed = connect(socket).await?.list_users(ListUsersRequest {}).await;
    Ok(listed.map_err(|status| refused(&status))?.into_inner().users)
}

async fn list(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let users = users(socket).await?;
    if as_json {
        return print_json(&users.iter().map(value).collect::<Vec<_>>());
    }
    let row = |user: &User| {
        [
            user.name.clone(),
            user.uid.map_or_else(String::new, |uid| uid.to_string()),
            user.team.clone(),
            user.org.clone(),
            limits(user),
            if user.configured { "lodge.toml" } else { "" }.to_owned(),
            user.title.clone(),
        ]
    };
    let rows: Vec<_> = users.iter().map(row).collect();
    table::print(["NAME", "UID", "TEAM", "ORG", "LIMITS", "FROM", "TITLE"], &rows);
    Ok(())
}

/// `60 rpm, 8 at a time`.
fn limits(user: &User) -> String {
    let limits = [
        (user.rpm, "rpm"),
        (user.tpm, "tpm"),
        (user.concurrency, "at a time"),
    ];
    let limits = limits.iter().filter(|(limit, _)| *limit > 0);
    let limits: Vec<String> = limits.map(|(limit, what)| format!("{limit} {what}")).collect();
    limits.join(", ")
}

async fn show(socket: &Path, name: &str, as_json: bool) -> anyhow::Result<()> {
    let found = users(socket).await?.into_iter().find(|user| user.name == name);
    let user = found.ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("there is no user `{name}`")).mend("lodgectl user list")
    })?;
    let request = ListBudgetsRequest { scope: String::new() };
    let answer = super::connect(socket).await?.list_budgets(request).await;
    let mut budgets = answer.map_err(|status| refused(&status))?.into_inner().budgets;
    let mut holders = vec![
        format!("user:{name}"),
        format!("team:{}", user.team),
        format!("org:{}", user.org),
    ];
    holders.extend(user.uid.map(|uid| format!("user:{uid}")));
    budgets.retain(|budget| holders.contains(&budget.scope));
    if as_json {
        let mut shown = value(&user);
        shown["budgets"] = budgets.iter().map(super::accounts::budget_value).collect();
        return print_json(&shown);
    }
    let rows = [
        ("name", user.name.clone()),
        ("title", user.title.clone()),
        ("uid", user.uid.map_or_else(String::new, |uid| uid.to_string())),
        ("team", user.team.clone()),
        ("organisation", user.org.clone()),
        ("limits", limits(&user)),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(field, text)| [field.to_owned(), text])
        .collect();
    table::print(["FIELD", "VALUE"], &rows);
    if !budgets.is_empty() {
        super::accounts::print_budgets(&budgets);
    }
    Ok(())
}

fn value(user: &User) -> Value {
    json!({
        "name": user.name, "title": user.title, "uid": user.uid, "team": user.team, "org": user.org, "rpm": user.rpm,
        "tpm": user.tpm, "concurrency": user.concurrency, "configured": user.configured,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_listed_where_there_are_any() {
        let user = User {
            rpm: 60,
            concurrency: 8,
            ..User::default()
        };
        assert_eq!(limits(&user), "60 rpm, 8 at a time");
        assert_eq!(limits(&User::default()), "");
    }
}
