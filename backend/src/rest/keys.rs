//! Keys of people for clients outside of Lodge's sessions: everybody sees their own, administrators all.

use super::body::Body;
use super::budgets::{NewBudget, of_new_key};
use super::command::idempotency_key;
use super::error::{ApiError, ErrorAnswer};
use super::gateway::{error_of, on_behalf};
use super::reach::Reach;
use crate::auth::extract::User;
use crate::server::{App, Shared};
use axum::extract::{FromRequestParts, Path, State};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;
use lodge_proto::control::{
    self, CreateKeyRequest, CreateKeyResponse, EnableKeyRequest, ListKeysRequest, RevokeKeyRequest,
    RotateKeyRequest, VirtualKey,
};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use tonic::{Code, Status};
use utoipa::ToSchema;

/// A key, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    id: String,
    /// For people.
    name: String,
    user: String,
    team: String,
    org: String,
    /// The key that it is narrower than; empty: none.
    parent: String,
    /// `*` stands for any characters; a denial wins; an empty list allows all.
    models: Vec<String>,
    deny_models: Vec<String>,
    providers: Vec<String>,
    deny_providers: Vec<String>,
    /// Requests a minute; 0: any number.
    rpm: u32,
    /// Tokens a minute; 0: any number.
    tpm: u32,
    /// Requests at a time; 0: any number.
    concurrency: u32,
    /// Seconds since 1970; 0: at once.
    not_before: u64,
    /// Seconds since 1970; 0: never.
    expires: u64,
    /// Seconds since 1970.
    created: u64,
    revoked: bool,
    /// `refuse`, `queue` or `clamp`; empty: refuse.
    on_limit: String,
    /// For now.
    disabled: bool,
    /// Seconds since 1970 until which the text before the last rotation works; 0: it does not.
    overlap_until: u64,
}

impl From<VirtualKey> for Key {
    fn from(key: VirtualKey) -> Self {
        let access = key.access.unwrap_or_default();
        Self {
            id: key.id,
            name: key.name,
            user: key.user,
            team: key.team,
            org: key.org,
            parent: key.parent,
            models: access.models,
            deny_models: access.deny_models,
            providers: access.providers,
            deny_providers: access.deny_providers,
            rpm: key.rpm,
            tpm: key.tpm,
            concurrency: key.concurrency,
            not_before: key.not_before,
            expires: key.expires,
            created: key.created,
            revoked: key.revoked,
            on_limit: key.on_limit,
            disabled: key.disabled,
            overlap_until: key.overlap_until,
        }
    }
}

/// The keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Keys {
    keys: Vec<Key>,
}

/// A key to be made. What is left out is as it is in a [`Key`] that says 0 or nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewKey {
    /// For people.
    name: String,
    /// Whose it is: needed, unless it has a parent.
    user: String,
    team: String,
    org: String,
    parent: String,
    models: Vec<String>,
    deny_models: Vec<String>,
    providers: Vec<String>,
    deny_providers: Vec<String>,
    rpm: u32,
    tpm: u32,
    concurrency: u32,
    not_before: u64,
    expires: u64,
    on_limit: String,
    /// Its own; those of its user hold besides.
    budgets: Vec<NewBudget>,
}

impl NewKey {
    fn into_request(self) -> Result<CreateKeyRequest, ErrorBody> {
        let key = VirtualKey {
            name: self.name,
            user: self.user,
            team: self.team,
            org: self.org,
            parent: self.parent,
            access: Some(control::Access {
                models: self.models,
                deny_models: self.deny_models,
                providers: self.providers,
                deny_providers: self.deny_providers,
            }),
            rpm: self.rpm,
            tpm: self.tpm,
            concurrency: self.concurrency,
            not_before: self.not_before,
            expires: self.expires,
            on_limit: self.on_limit,
            ..VirtualKey::default()
        };
        Ok(CreateKeyRequest {
            key: Some(key),
            budgets: of_new_key(self.budgets)?,
        })
    }
}

/// How a key gets a new text.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Seconds in which the old text works too; absent: it ends at once.
    #[serde(default)]
    overlap: u64,
}

/// Whether a key is to work.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Enabled {
    enabled: bool,
}

/// A key with its text, which is in this answer and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyWithText {
    key: Key,
    secret: String,
}

/// Who changes keys: an administrator, perhaps under an idempotency key.
#[derive(Debug)]
pub(crate) struct Administrator {
    app: Shared,
    account: String,
    idempotency_key: Option<String>,
}

impl FromRequestParts<Shared> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let user = User::from_request_parts(parts, app).await?;
        Reach::of(app, &user).must_administer()?;
        Ok(Self {
            app: Shared::clone(app),
            account: user.actor.account,
            idempotency_key: idempotency_key(parts)?,
        })
    }
}

impl Administrator {
    /// The server, and the account that asks.
    pub(crate) fn into_parts(self) -> (Shared, String) {
        (self.app, self.account)
    }

    /// Makes the text of a key, once under an idempotency key.
    async fn make(
        self,
        what: &'static str,
        call: impl Future<Output = Result<tonic::Response<CreateKeyResponse>, Status>>,
    ) -> Result<Json<KeyWithText>, ApiError> {
        let (once, account, asked) = (&self.app.once, &self.account, self.idempotency_key.as_deref());
        once.begin(account, asked)?;
        let made = call.await.map_err(|status| error_of(&status));
        let made = made.and_then(|answer| {
            let CreateKeyResponse { key, secret } = answer.into_inner();
            let key = key.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "the gateway named no key"))?;
            Ok(KeyWithText {
                key: key.into(),
                secret,
            })
        });
        let made = made.inspect_err(|error| once.failed(account, asked, error))?;
        once.end(account, asked, &made.key.id);
        let line = format!("{what} {} of {}", made.key.id, made.key.user);
        self.app.login.audit(line, self.account).await?;
        Ok(Json(made))
    }
}

/// All keys that the gateway has.
pub(crate) async fn stored_keys(app: &App) -> Result<Vec<VirtualKey>, ErrorBody> {
    let answer = app.gateway.client().list_keys(ListKeysRequest {}).await;
    Ok(answer.map_err(|s| error_of(&s))?.into_inner().keys)
}

fn shown(keys: impl Iterator<Item = VirtualKey>) -> Json<Keys> {
    Json(Keys {
        keys: keys.map(Key::from).collect(),
    })
}

/// Lists the keys of the account that asks.
#[utoipa::path(get, path = "/api/v1/keys", tag = "usage", responses(
    (status = 200, body = Keys),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn own(State(app): State<Shared>, user: User) -> Result<Json<Keys>, ApiError> {
    let reach = Reach::of(&app, &user).known(&app).await?;
    let keys = stored_keys(&app).await?.into_iter();
    Ok(shown(keys.filter(|key| reach.owns(key))))
}

/// Shows a key of the account that asks; to administrators, any.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "usage",
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 200, body = Key),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn show(
    State(app): State<Shared>,
    user: User,
    Path(id): Path<String>,
) -> Result<Json<Key>, ApiError> {
    let reach = Reach::of(&app, &user).known(&app).await?;
    let mut keys = stored_keys(&app).await?.into_iter();
    let found = keys.find(|key| key.id == id && (reach.is_administrator() || reach.owns(key)));
    // Another's key and none look the same.
    let found = found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "there is no such key"))?;
    Ok(Json(found.into()))
}

/// Lists everybody's keys; for administrators.
#[utoipa::path(get, path = "/api/v1/admin/keys", tag = "usage", responses(
    (status = 200, body = Keys),
    (status = 403, body = ErrorAnswer),
    (status = 503, body = ErrorAnswer, description = "The gateway is away"),
))]
pub(crate) async fn all(State(app): State<Shared>, user: User) -> Result<Json<Keys>, ApiError> {
    Reach::of(&app, &user).must_administer()?;
    Ok(shown(stored_keys(&app).await?.into_iter()))
}

/// Makes a key; for administrators.
///
/// With an `Idempotency-Key` it is made once, however often it is asked for: a repetition gets `conflict` with the id of
/// the key. The last 1024 requests since the start of the server are remembered.
#[utoipa::path(post, path = "/api/v1/admin/keys", tag = "usage", request_body = NewKey, responses(
    (status = 200, body = KeyWithText, description = "The key's text is in this answer and nowhere else"),
    (status = 400, body = ErrorAnswer),
    (status = 403, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "It was made before, under this Idempotency-Key"),
))]
pub(crate) async fn create(
    administrator: Administrator,
    Body(new): Body<NewKey>,
) -> Result<Json<KeyWithText>, ApiError> {
    let request = on_behalf(new.into_request()?, &administrator.account);
    let mut client = administrator.app.gateway.client();
    administrator.make("key.create", client.create_key(request)).await
}

/// Gives a key a new text; the old one ends at once with its streams, or after a while. For administrators.
///
/// With an `Idempotency-Key` it is done once, as with a new key.
#[utoipa::path(post, path = "/api/v1/admin/keys/{id}/rotate", tag = "usage", request_body = Rotation,
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 200, body = KeyWithText, description = "The key's text is in this answer and nowhere else"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
    (status = 409, body = ErrorAnswer, description = "The key was revoked, or this was done before"),
))]
pub(crate) async fn rotate(
    administrator: Administrator,
    Path(id): Path<String>,
    Body(Rotation { overlap }): Body<Rotation>,
) -> Result<Json<KeyWithText>, ApiError> {
    let mut client = administrator.app.gateway.client();
    let request = on_behalf(RotateKeyRequest { id, overlap }, &administrator.account);
    let call = async {
        let rotated = client.rotate_key(request).await;
        // Waiting would not mend it.
        rotated.map_err(|status| match status.code() {
            Code::FailedPrecondition => Status::already_exists(status.message()),
            _ => status,
        })
    };
    administrator.make("key.rotate", call).await
}

/// Ends a key for good, with its streams and its children. One that has ended may be ended again. For administrators.
#[utoipa::path(delete, path = "/api/v1/admin/keys/{id}", tag = "usage",
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 204, description = "It has ended"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn revoke(
    administrator: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let Administrator { app, account, .. } = administrator;
    let request = on_behalf(RevokeKeyRequest { id: id.clone() }, &account);
    match app.gateway.client().revoke_key(request).await {
        Ok(_) => {}
        Err(status) if status.code() == Code::FailedPrecondition => return Ok(StatusCode::NO_CONTENT),
        Err(status) => return Err(error_of(&status).into()),
    }
    app.login.audit(format!("key.revoke {id}"), account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a key work again, or not for now; its streams and those of its children are cut. For administrators.
#[utoipa::path(put, path = "/api/v1/admin/keys/{id}/enabled", tag = "usage", request_body = Enabled,
    params(("id" = String, Path, description = "The key's id")), responses(
    (status = 204, description = "So it is"),
    (status = 403, body = ErrorAnswer),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn enable(
    administrator: Administrator,
    Path(id): Path<String>,
    Body(Enabled { enabled }): Body<Enabled>,
) -> Result<StatusCode, ApiError> {
    let Administrator { app, account, .. } = administrator;
    let request = EnableKeyRequest {
        id: id.clone(),
        enabled,
    };
    let done = app.gateway.ops().enable_key(on_behalf(request, &account)).await;
    done.map_err(|s| error_of(&s))?;
    let what = if enabled { "key.enable" } else { "key.disable" };
    app.login.audit(format!("{what} {id}"), account).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/keys", get(own))
        .route("/api/v1/keys/{id}", get(show))
        .route("/api/v1/admin/keys", get(all).post(create))
        .route("/api/v1/admin/keys/{id}", axum::routing::delete(revoke))
        .route("/api/v1/admin/keys/{id}/rotate", post(rotate))
        .route("/api/v1/admin/keys/{id}/enabled", put(enable))
}
