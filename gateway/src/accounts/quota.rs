//! What providers say of their own limits, in the headers of their answers.

use std::time::Duration;

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};

/// Windows of one account that are kept.
const MAX_WINDOWS: usize = 32;

/// One limit of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quota {
    /// `requests`, `tokens`, `input-tokens`, `unified-5h` ...
    pub name: String,
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Percent of the limit, where the provider says no more than that.
    pub used_percent: Option<f64>,
    /// When it is full again, milliseconds of Unix time.
    pub resets_at: Option<u64>,
    /// `allowed`, `rejected` ... as the provider says it.
    pub status: Option<String>,
}

/// The quotas in these headers, read at `now`.
pub fn parse(headers: &HeaderMap, now: u64) -> Vec<Quota> {
    let mut quotas: Vec<Quota> = Vec::new();
    for (name, value) in headers {
        let Ok(value) = value.to_str() else { continue };
        let Some((window, field)) = window(name.as_str()) else {
            continue;
        };
        let index = quotas.iter().position(|quota| quota.name == window).or_else(|| {
            let quota = Quota {
                name: window.to_owned(),
                ..Quota::default()
            };
            (quotas.len() < MAX_WINDOWS).then(|| {
                quotas.push(quota);
                quotas.len() - 1
            })
        });
        if let Some(quota) = index.and_then(|index| quotas.get_mut(index)) {
            set(quota, field, value.trim(), now);
        }
    }
    quotas.retain(|quota| {
        quota.limit.is_some()
            || quota.remaining.is_some()
            || quota.used_percent.is_some()
            || quota.status.is_some()
    });
    quotas
}

/// Whether these say that a limit is that of the account and not of a model: those of a subscription do.
pub fn is_account_wide(quotas: &[Quota]) -> bool {
    quotas
        .iter()
        .any(|quota| quota.name.starts_with("unified") && quota.status.as_deref() == Some("rejected"))
}

/// New ones in place of old ones of the same name.
pub fn merged(old: &[Quota], new: Vec<Quota>) -> Vec<Quota> {
    let kept = old
        .iter()
        .filter(|old| !new.iter().any(|new| new.name == old.name));
    let mut all: Vec<Quota> = kept.cloned().collect();
    all.extend(new);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.truncate(MAX_WINDOWS);
    all
}

/// Which window a header is about, and which of its fields.
fn window(name: &str) -> Option<(&str, &str)> {
    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        let (window, field) = rest.rsplit_once('-')?;
        return is_field(field).then_some((window, field));
    }
    let rest = name.strip_prefix("x-ratelimit-")?;
    match rest.split_once('-') {
        Some((field, window)) if is_field(field) => Some((window, field)),
        // Those that know one window only.
        None if is_field(rest) => Some(("requests", rest)),
        _ => None,
    }
}

fn is_field(text: &str) -> bool {
    matches!(text, "limit" | "remaining" | "reset" | "utilization" | "status")
}

fn set(quota: &mut Quota, field: &str, value: &str, now: u64) {
    match field {
        "limit" => quota.limit = value.parse().ok(),
        "remaining" => quota.remaining = value.parse().ok(),
        "utilization" => quota.used_percent = value.parse().ok().map(|share: f64| share * 100.0),
        "reset" => quota.resets_at = reset(value, now),
        _ => quota.status = Some(value.chars().take(40).collect()),
    }
}

/// Seconds, `6m0s`, Unix time or RFC 3339: every provider has its own way to say when.
fn reset(value: &str, now: u64) -> Option<u64> {
    if let Ok(seconds) = value.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of floats saturates
        let millis = (seconds * 1000.0) as u64;
        // No window is thirty years long: a number this large is a point in time.
        return Some(if seconds > 1e9 {
            millis
        } else {
            now.saturating_add(millis)
        });
    }
    match duration(value) {
        Some(duration) => Some(now.saturating_add(duration.as_millis().try_into().ok()?)),
        None => rfc3339(value),
    }
}

/// `1h2m3.5s`, `120ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..]
            .find(|char: char| char.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// `2026-01-31T00:00:00Z`, with or without a fraction; only UTC is sent.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text
            .split(by)
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 24 || minute > 60 || second > 60 {
        return None;
    }
    // Days since 1970 of the civil calendar, with March as the first month (Hinnant).
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1000)
}

/// How long a provider asks to wait; seconds or nothing, since a date would be read against another clock.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = match text("retry-after-ms") {
        Some(millis) => millis / 1000.0,
        None => text("retry-after")?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn quotas(headers: &[(&'static str, &'static str)]) -> Vec<Quota> {
        let pair = |&(name, value): &(&'static str, &'static str)| {
            (
                hyper::header::HeaderName::from_static(name),
                hyper::header::HeaderValue::from_static(value),
            )
        };
        let mut quotas = parse(&headers.iter().map(pair).collect(), NOW);
        quotas.sort_by(|one, other| one.name.cmp(&other.name));
        quotas
    }

    fn quota(name: &str, limit: u64, remaining: u64, resets_at: u64) -> Quota {
        Quota {
            name: name.into(),
            limit: Some(limit),
            remaining: Some(remaining),
            resets_at: Some(resets_at),
            ..Quota::default()
        }
    }

    #[test]
    fn both_families_of_headers() {
        assert_eq!(
            quotas(&[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "59"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-limit-tokens", "150000"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-tokens", "6m0.5s"),
                ("x-ratelimit-nonsense", "1"),
            ]),
            [
                quota("requests", 60, 59, NOW + 1000),
                quota("tokens", 150_000, 149_984, NOW + 360_500)
            ]
        );
        assert_eq!(
            quotas(&[
                ("anthropic-ratelimit-input-tokens-limit", "400000"),
                ("anthropic-ratelimit-input-tokens-remaining", "1"),
                ("anthropic-ratelimit-input-tokens-reset", "2027-01-15T08:00:01Z"),
                ("anthropic-ratelimit-unified-5h-utilization", "0.25"),
                ("anthropic-ratelimit-unified-5h-reset", "1800003600"),
                ("anthropic-ratelimit-unified-5h-status", "allowed"),
            ]),
            [
                quota("input-tokens", 400_000, 1, NOW + 1000),
                Quota {
                    name: "unified-5h".into(),
                    used_percent: Some(25.0),
                    resets_at: Some(NOW + 3_600_000),
                    status: Some("allowed".into()),
                    ..Quota::default()
                }
            ]
        );
        assert_eq!(
            quotas(&[("x-ratelimit-limit", "5"), ("x-ratelimit-reset", "2")])[0].limit,
            Some(5)
        );
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!(
            quotas(&[
                ("x-ratelimit-limit-requests", "many"),
                ("x-ratelimit-reset-tokens", "1s")
            ]),
            []
        );
        for text in ["", "1x", "s", "2026-13-01T00:00:00Z", "-1s", "1e400"] {
            assert!(reset(text, 5).is_none_or(|at| at == u64::MAX), "{text}");
        }
        assert_eq!(rfc3339("1970-01-01T00:00:00.5Z"), Some(0));
        assert_eq!(rfc3339("2024-02-29T12:00:00Z"), Some(1_709_208_000_000));
    }
}
