//! Whether and where spans are sent: `[telemetry]` of the configuration, or the variables that exporters of
//! OpenTelemetry have in common.

use std::collections::BTreeMap;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::config::TelemetrySection;
use crate::provider::{BadBaseUrl, BaseUrl, Kind};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const NAME: &str = "OTEL_SERVICE_NAME";
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// Variables that are read, and taken from the environment: headers may hold a key.
pub(crate) const VARIABLES: [&str; 4] = [ENDPOINT, HEADERS, NAME, DISABLED];

const INSECURE: &str = "plain http to another machine can be read on its way; use https, or set `insecure_http = true` in [telemetry]";
const MAX_HEADERS: usize = 16;
const DEFAULT_NAME: &str = "lodge-gateway";

/// Where spans are sent. Headers may hold a key: `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) uri: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) service: String,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings({})", self.uri)
    }
}

/// What cannot be meant: which key or variable, and why.
pub(crate) type Wrong = (&'static str, String);

impl Settings {
    /// As configured; none: nothing is sent. What the file says goes before the variables.
    pub(crate) fn read(
        section: &TelemetrySection,
        environment: &BTreeMap<String, Zeroizing<String>>,
    ) -> Result<Option<Self>, Wrong> {
        let variable = |name: &str| {
            let value = environment.get(name).map(|value| value.trim());
            value.filter(|value| !value.is_empty())
        };
        if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (key, endpoint) = match section.otlp_endpoint.as_deref() {
            Some("off") => return Ok(None),
            Some(url) => ("otlp_endpoint", url),
            None => match variable(ENDPOINT) {
                Some(url) => (ENDPOINT, url),
                None => return Ok(None),
            },
        };
        let base = BaseUrl::parse(Kind::Anthropic, endpoint, section.insecure_http);
        let base = base.map_err(|error| match error {
            BadBaseUrl::Insecure => (key, INSECURE.to_owned()),
            error => (key, error.to_string()),
        })?;
        let uri = base.join("/v1/traces", None);
        let uri = uri.map_err(|_| (key, "is not a URL".to_owned()))?;
        let mut headers = Vec::new();
        if let Some(list) = variable(HEADERS) {
            for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
                let bad = || (HEADERS, "must be name=value, separated by commas".to_owned());
                let (name, value) = pair.split_once('=').ok_or_else(bad)?;
                let value = decoded(value.trim()).ok_or_else(bad)?;
                headers.push(header(name.trim(), &value).ok_or_else(bad)?);
            }
        }
        for (name, value) in &section.otlp_headers {
            let bad = || ("otlp_headers", format!("`{}` is no header", name.escape_debug()));
            headers.push(header(name, value).ok_or_else(bad)?);
        }
        if headers.len() > MAX_HEADERS {
            return Err(("otlp_headers", format!("are more than {MAX_HEADERS}")));
        }
        let service = section
            .service_name
            .as_deref()
            .or(variable(NAME))
            .unwrap_or(DEFAULT_NAME);
        if service.is_empty() || service.len() > 100 || service.contains(char::is_control) {
            return Err((
                "service_name",
                "must be 1 to 100 bytes without control characters".to_owned(),
            ));
        }
        Ok(Some(Self {
            uri,
            headers,
            service: service.to_owned(),
        }))
    }
}

/// Values of the variable are percent-encoded, as in a URL.
fn decoded(text: &str) -> Option<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (code, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
        rest = tail;
    }
    std::str::from_utf8(&bytes)
        .ok()
        .map(|text| Zeroizing::new(text.to_owned()))
}

/// A header that no debug output shows; none where it cannot be one, or would change the message itself.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let is_own = [
        "host",
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
    ]
    .contains(&name.as_str());
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    (!is_own).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &str, variables: &[(&str, &str)]) -> Result<Option<Settings>, Wrong> {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())))
            .collect();
        Settings::read(&toml::from_str(section).unwrap(), &environment)
    }

    #[test]
    fn the_file_goes_before_the_variables_and_nothing_is_sent_without() {
        assert_eq!(read("", &[]), Ok(None));
        assert_eq!(read("", &[(ENDPOINT, " ")]), Ok(None));
        let settings = read(
            "",
            &[
                (ENDPOINT, "http://127.0.0.1:4318/"),
                (HEADERS, "a=Basic%20b, X-Key = c=d"),
            ],
        );
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.uri, "http://127.0.0.1:4318/v1/traces");
        let shown: Vec<_> = settings
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        assert_eq!(shown, [("a", &b"Basic b"[..]), ("x-key", b"c=d")]);
        assert!(!format!("{settings:?}").contains("c=d"));
        let here = "otlp_endpoint = 'https://o.example/otlp'\nservice_name = 's'";
        let settings = read(here, &[(ENDPOINT, "http://127.0.0.1:4318"), (NAME, "other")]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(
            (settings.uri.to_string().as_str(), settings.service.as_str()),
            ("https://o.example/otlp/v1/traces", "s")
        );
        for off in ["otlp_endpoint = 'off'", ""] {
            let variables = [(ENDPOINT, "http://127.0.0.1:1"), (DISABLED, "TRUE")];
            assert_eq!(read(off, &variables), Ok(None));
        }
        assert_eq!(
            read("otlp_endpoint = 'off'", &[(ENDPOINT, "http://127.0.0.1:1")]),
            Ok(None)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let wrong = |section: &str, variables: &[(&str, &str)]| read(section, variables).unwrap_err();
        let (key, why) = wrong("otlp_endpoint = 'http://collector:4318'", &[]);
        assert!(key == "otlp_endpoint" && why.contains("insecure_http"), "{why}");
        assert!(
            read(
                "otlp_endpoint = 'http://collector:4318'\ninsecure_http = true",
                &[]
            )
            .is_ok()
        );
        assert_eq!(wrong("", &[(ENDPOINT, "collector")]).0, ENDPOINT);
        let there = (ENDPOINT, "http://127.0.0.1:1");
        assert_eq!(wrong("", &[there, (HEADERS, "secret")]).0, HEADERS);
        assert_eq!(wrong("", &[there, (HEADERS, "a=%2")]).0, HEADERS);
        assert!(!wrong("", &[there, (HEADERS, "secret")]).1.contains("secret"));
        assert_eq!(wrong("otlp_headers = { host = 'x' }", &[there]).0, "otlp_headers");
    }
}
