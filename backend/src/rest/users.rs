//! The people whom the gateway knows by name; for administrators.

use super::body::Body;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::{error_of, on_behalf};
use super::keys::Administrator;
use super::reach::Reach;
use crate::auth::extract::User as LoggedIn;
use crate::server::Shared;
use axum::extract::{Path, State};
use axum::routing::{get, patch};
use axum::{Json, Router};
use http::StatusCode;
use lodge_proto::control::{self, ListUsersRequest, RemoveUserRequest, SetUserRequest};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use utoipa::ToSchema;

/// A user: sessions of its uid and keys of its name spend from budgets of the user, the team and the organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Person {
    /// For good: budgets and usage go by it.
    name: String,
    /// For people.
    title: String,
    /// Absent: none; the user has keys only.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    team: String,
    org: String,
    /// Requests a minute of all sessions and keys together; 0: any number.
    rpm: u32,
    /// Tokens a minute; 0: any number.
    tpm: u32,
    /// Requests at a time; 0: any number.
    concurrency: u32,
    /// It is in `lodge.toml`, where it is changed.
    configured: bool,
}

impl From<control::User> for Person {
    fn from(user: control::User) -> Self {
        Self {
            name: user.name,
            title: user.title,
            uid: user.uid,
            team: user.team,
            org: user.org,
            rpm: user.rpm,
            tpm: user.tpm,
            concurrency: user.concurrency,
            configured: user.configured,
        }
    }
}

/// The users, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct People {
    users: Vec<Person>,
}

/// What is to be; absent fields stay as they are, or are none of a new user.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    title: Option<String>,
    /// Below 0: none.
    uid: Option<i64>,
    team: Option<String>,
    org: Option<String>,
    rpm: Option<u32>,
    tpm: Option<u32>,
    concurrency: Option<u32>,
}

impl Change {
    fn request(self, name: String, create: bool) -> SetUserRequest {
        SetUserRequest {
            name,
            create,
            title: self.title,
            uid: self.uid,
            team: self.team,
            org: self.org,
            rpm: self.rpm,
            tpm: self.tpm,
            concurrency: self.concurrency,
        }
    }
}

/// A user that is in the configuration is changed there: waiting would not mend it.
fn refusal(status: &Status) -> ErrorBody {
    match status.code() {
        Code::FailedPrecondition => ErrorBody::new(ErrorCode::Conflict, status.message()),
        _ => error_of(status),
    }
}

async fn put(
    administrator: Administrator,
    request: SetUserRequest,
    what: &'static str,
) -> Result<Json<Person>, ApiError> {
    let (app, account) = administrator.into_parts();
    let name = request.name.clone();
    let set = app.gateway.users().set_user(on_behalf(request, &account)).await;
    let user = set.map_err(|status| refusal(&status))?.into_inner().user;
    app.login.audit(format!("{what} {name}"), account).await?;
    Ok(Json(user.unwrap_or_default().into()))
}

/// Lists the users; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/users", tag = "usage", responses(
    (status = 200, body = People),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn list(State(app): State<Shared>, user: LoggedIn) -> Result<Json<People>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    let listed = app.gateway.users().list_users(ListUsersRequest {}).await;
    let users = listed.map_err(|status| error_of(&status))?.into_inner().users;
    Ok(Json(People {
        users: users.into_iter().map(Person::from).collect(),
    }))
}

/// Adds a user; for administrators.
#[utoipa::path(put, path = "/api/v1/admin/users/{name}", tag = "usage", request_body = Change,
    params(("name" = String, Path, description = "For good: budgets and usage go by it")), responses(
    (status = 200, body = Person),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "There is a user of this name"),
))]
pub(crate) async fn add(
    administrator: Administrator,
    Path(name): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Person>, ApiError> {
    put(administrator, change.request(name, true), "user.add").await
}

/// Changes a user; it holds from the next request on. For administrators.
#[utoipa::path(patch, path = "/api/v1/admin/users/{name}", tag = "usage", request_body = Change,
    params(("name" = String, Path, description = "The user's name")), responses(
    (status = 200, body = Person),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The user is in lodge.toml"),
))]
pub(crate) async fn change(
    administrator: Administrator,
    Path(name): Path<String>,
    Body(change): Body<Change>,
) -> Result<Json<Person>, ApiError> {
    put(administrator, change.request(name, false), "user.set").await
}

/// Forgets a user; budgets and usage of that name stay. For administrators.
#[utoipa::path(delete, path = "/api/v1/admin/users/{name}", tag = "usage",
    params(("name" = String, Path, description = "The user's name")), responses(
    (status = 204, description = "It is forgotten"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The user is in lodge.toml"),
))]
pub(crate) async fn remove(
    administrator: Administrator,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (app, account) = administrator.into_parts();
    let request = on_behalf(RemoveUserRequest { name: name.clone() }, &account);
    let removed = app.gateway.users().remove_user(request).await;
    removed.map_err(|status| refusal(&status))?;
    app.login.audit(format!("user.remove {name}"), account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/api/v1/admin/users", get(list)).route(
        "/api/v1/admin/users/{name}",
        patch(change).put(add).delete(remove),
    )
}
