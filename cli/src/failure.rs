//! Errors as a person reads them: what was wrong, where, and what to do.

use crate::terminal::safe;
use lodge_backend::control::ControlError;
use lodge_backend::upstream::UpstreamError;
use lodge_proto::sock::SockError;
use lodge_proto::{ErrorBody, ErrorCode};
use std::fmt::Write;

/// An error that names its place and its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    pub code: ErrorCode,
    what: String,
    place: Option<String>,
    remedy: Option<String>,
}

impl Failure {
    /// What was wrong.
    pub fn new(code: ErrorCode, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            place: None,
            remedy: None,
        }
    }

    /// Where: a file, a flag, an address.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What is to be done, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

/// An error and its causes on one line, none twice.
pub fn chain(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The status to exit with.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    code_of(error).exit_code()
}

fn code_of(error: &anyhow::Error) -> ErrorCode {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code;
        }
        if let Some(body) = cause.downcast_ref::<ErrorBody>() {
            return body.code;
        }
        if cause.is::<SockError>() || cause.is::<UpstreamError>() || cause.is::<ControlError>() {
            return ErrorCode::Unavailable;
        }
    }
    ErrorCode::Internal
}

/// The error as printed: causes in order, then place and remedy. Text of agents in it is made safe.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = format!("error: {}", safe(&error.to_string()));
    for cause in error.chain().skip(1) {
        let _ = write!(text, "\n  because: {}", safe(&cause.to_string()));
    }
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    if let Some(place) = failure.and_then(|f| f.place.as_deref()) {
        let _ = write!(text, "\n  where:   {}", safe(place));
    }
    let remedy = match failure.and_then(|f| f.remedy.clone()) {
        Some(remedy) => Some(remedy),
        None => error
            .chain()
            .find_map(|cause| cause.downcast_ref::<ErrorBody>())
            .and_then(remedy_of),
    };
    if let Some(remedy) = remedy {
        let _ = write!(text, "\n  to do:   {}", safe(&remedy));
    }
    text
}

/// What helps against an error that came from a role.
fn remedy_of(body: &ErrorBody) -> Option<String> {
    let named = |key: &str| body.details.as_ref()?.get(key)?.as_str().map(str::to_owned);
    if let Some(remedy) = named("remedy").or_else(|| named("fix")) {
        return Some(remedy);
    }
    Some(match body.code {
        ErrorCode::HarnessNotInstalled => match named("harness") {
            Some(harness) => format!("lodge harness install {harness}"),
            None => "lodge harness list, then lodge harness install NAME".to_owned(),
        },
        ErrorCode::SandboxUnavailable => "lodge doctor".to_owned(),
        ErrorCode::Unavailable => "lodge status; the logs are shown by: lodge logs".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_failure_keeps_its_code_under_context_and_names_place_and_remedy() {
        let failure = Failure::new(ErrorCode::Busy, "in use")
            .at("/data")
            .mend("lodge down");
        let error = Err::<(), _>(failure).context("starting").unwrap_err();
        assert_eq!(exit_code(&error), ErrorCode::Busy.exit_code());
        let text = describe(&error);
        for part in ["starting", "in use", "/data", "lodge down"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_error_without_a_code_is_internal() {
        assert_eq!(exit_code(&anyhow::anyhow!("x")), 70);
    }

    #[test]
    fn control_characters_of_a_remote_message_do_not_reach_the_terminal() {
        let error = anyhow::Error::from(ErrorBody::new(ErrorCode::ProviderError, "\u{1b}]0;title\u{7}"));
        assert!(!describe(&error).contains('\u{1b}'));
    }
}
