//! What is said to a login server, and what it answers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{OauthError, Spec, Tokens};
use crate::proxy::Upstream;

/// The grant of the device flow.
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two questions where the server does not say, seconds.
const INTERVAL: u64 = 5;

/// What a person types where.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Device {
    /// As good as the tokens, once the person has answered.
    #[serde(rename = "device_code")]
    code: String,
    pub user_code: String,
    #[serde(alias = "verification_url")]
    pub verification_uri: String,
    #[serde(default)]
    pub verification_uri_complete: Option<String>,
    /// Seconds between two questions.
    #[serde(default = "interval")]
    pub interval: u64,
    /// Seconds.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}

fn interval() -> u64 {
    INTERVAL
}

/// What asking for a device's tokens came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// The person has not answered yet; ask again after so many seconds.
    Pending {
        after: u64,
    },
    LoggedIn,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    refresh_token: Option<String>,
    /// Seconds.
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Denied {
    error: String,
}

/// The address a person opens, for a verifier that only this process knows.
pub(super) fn authorize_url(spec: &Spec, state: &str, verifier: &str) -> Result<String, OauthError> {
    let url = spec
        .authorize_url
        .as_deref()
        .ok_or(OauthError::NoFlow("authorize_url"))?;
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let scopes = spec.scopes.join(" ");
    let query = form(&[
        ("response_type", "code"),
        ("client_id", &spec.client_id),
        ("redirect_uri", &spec.redirect_uri),
        ("scope", &scopes),
        ("state", state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let separator = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{separator}{}", *query))
}

/// Tokens for a code that came back.
pub(super) async fn exchange(
    upstream: &Upstream,
    spec: &Spec,
    code: &str,
    verifier: &str,
) -> Result<Tokens, OauthError> {
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", spec.client_id.as_str()),
        ("redirect_uri", &spec.redirect_uri),
        ("code", code),
        ("code_verifier", verifier),
    ];
    granted(ask::<Granted>(upstream, &spec.token_url, &fields).await?)
}

pub(super) async fn refresh(upstream: &Upstream, spec: &Spec, token: &str) -> Result<Tokens, OauthError> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", spec.client_id.as_str()),
        ("refresh_token", token),
    ];
    granted(ask::<Granted>(upstream, &spec.token_url, &fields).await?)
}

/// Begins the device flow.
pub(super) async fn device(upstream: &Upstream, spec: &Spec) -> Result<Device, OauthError> {
    let url = spec
        .device_url
        .as_deref()
        .ok_or(OauthError::NoFlow("device_url"))?;
    let scopes = spec.scopes.join(" ");
    ask(
        upstream,
        url,
        &[("client_id", &spec.client_id), ("scope", &scopes)],
    )
    .await
}

/// Asks once whether the person has answered; none where not yet, with the seconds to wait.
pub(super) async fn poll(
    upstream: &Upstream,
    spec: &Spec,
    device: &Device,
) -> Result<Result<Tokens, u64>, OauthError> {
    let fields = [
        ("grant_type", DEVICE),
        ("client_id", spec.client_id.as_str()),
        ("device_code", &device.code),
    ];
    match ask::<Granted>(upstream, &spec.token_url, &fields).await {
        Ok(answer) => granted(answer).map(Ok),
        Err(OauthError::Refused(error)) if error == "authorization_pending" => Ok(Err(device.interval)),
        Err(OauthError::Refused(error)) if error == "slow_down" => Ok(Err(device.interval + INTERVAL)),
        Err(error) => Err(error),
    }
}

fn granted(answer: Granted) -> Result<Tokens, OauthError> {
    if answer.access_token.is_empty() {
        return Err(OauthError::Answer);
    }
    let ends = |seconds: u64| crate::accounts::now().saturating_add(seconds.saturating_mul(1000));
    Ok(Tokens {
        access: answer.access_token,
        refresh: answer.refresh_token.filter(|token| !token.is_empty()),
        expires: answer.expires_in.map(ends),
    })
}

async fn ask<T: DeserializeOwned>(
    upstream: &Upstream,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<T, OauthError> {
    let (status, body) = upstream
        .form(url, form(fields))
        .await
        .map_err(|error| OauthError::Unreachable(error.message))?;
    if status.is_success() {
        let answer = serde_json::from_slice(&body).map_err(|_| OauthError::Answer);
        // It holds the tokens.
        if let Ok(mut body) = body.try_into_mut() {
            body.zeroize();
        }
        return answer;
    }
    // Only the word of the specification: the rest of such an answer may hold anything.
    match serde_json::from_slice::<Denied>(&body) {
        Ok(denied) if status.is_client_error() => Err(OauthError::Refused(
            denied
                .error
                .chars()
                .filter(|char| !char.is_control())
                .take(60)
                .collect(),
        )),
        _ => Err(OauthError::Unreachable(format!("HTTP {}", status.as_u16()))),
    }
}

/// `application/x-www-form-urlencoded`. It may hold a code or a token: it is wiped, and never moved while it grows.
fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    use std::fmt::Write;
    let longest = |(name, value): &(&str, &str)| name.len() + 3 * value.len() + 2;
    let mut form = Zeroizing::new(String::with_capacity(fields.iter().map(longest).sum()));
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                form.push(char::from(byte));
            } else {
                let _infallible = write!(form, "%{byte:02X}");
            }
        }
    }
    form
}
