//! npm's last words, fit to be shown: without addresses, which may name a private registry or carry a token.

use std::collections::BTreeSet;

/// Lines shown at most.
const LINES: usize = 12;
/// Bytes of one line shown at most.
const LINE_BYTES: usize = 300;
/// Errors of the resolver and of sockets name their peer right after the code.
const NETWORK_CODES: &[&str] = &[
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ENETUNREACH",
];

/// The last lines of `log` that say something, each address replaced by `<registry>`.
pub(super) fn last_words(log: &str) -> String {
    let hosts = hosts_of(log);
    let said: Vec<&str> = log
        .lines()
        .map(str::trim)
        .filter(|line| is_telling(line))
        .collect();
    let errors: Vec<&str> = said.iter().copied().filter(|line| is_error(line)).collect();
    let chosen = if errors.is_empty() { &said } else { &errors };
    let first = chosen.len().saturating_sub(LINES);
    let lines: Vec<String> = chosen[first..].iter().map(|line| redact(line, &hosts)).collect();
    lines.join("\n")
}

/// What a person can do about a failure, from the codes in the log.
pub(super) fn hint(log: &str) -> &'static str {
    let has = |codes: &[&str]| codes.iter().any(|code| log.contains(code));
    if has(&["ENOSPC", "EDQUOT"]) {
        "the disk is full: make room and try again"
    } else if has(&["EINTEGRITY"]) {
        "a download does not have the hash of the lock file: try again, and if it stays do not trust this registry"
    } else if has(NETWORK_CODES) {
        "npm does not reach its registry: check the network, the proxy and npm's `registry` setting, or use `--from DIR`"
    } else if has(&["E401", "E403"]) {
        "the registry refuses this user: check npm's login"
    } else if has(&["E404", "ETARGET"]) {
        "the registry does not have a pinned package: check npm's `registry` setting, or use `--from DIR`"
    } else {
        "see its words, mend the cause and try again"
    }
}

fn is_error(line: &str) -> bool {
    line.starts_with("npm error") || line.starts_with("npm ERR!")
}

fn is_telling(line: &str) -> bool {
    !line.is_empty()
        && (!line.starts_with("npm http") || line.contains(" failed with "))
        && !line.starts_with("npm warn")
        && !line.contains("complete log of this run")
        && !line.contains("-debug-0.log")
}

fn redact(line: &str, hosts: &BTreeSet<String>) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut after_code = false;
    for word in line.split_whitespace() {
        if word.contains("://") || after_code {
            out.push("<registry>".to_owned());
        } else {
            out.push(hosts.iter().fold(word.to_owned(), |word, host| {
                word.replace(host.as_str(), "<registry>")
            }));
        }
        after_code = NETWORK_CODES.contains(&word);
    }
    let mut text = out.join(" ");
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        text.push('…');
    }
    text
}

fn hosts_of(log: &str) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    for (at, _) in log.match_indices("://") {
        let rest = &log[at + 3..];
        let authority = rest
            .split(|c: char| c == '/' || c.is_whitespace() || "\"'`<>)".contains(c))
            .next();
        let Some(authority) = authority else { continue };
        let host = authority.rsplit('@').next().unwrap_or(authority);
        for name in [host, host.split(':').next().unwrap_or(host)] {
            // A very short name would turn up inside ordinary words.
            if name.len() > 3 {
                hosts.insert(name.to_owned());
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_tokens_do_not_get_through() {
        let log = "npm http fetch GET 200 https://user:tok3n@packages.example.org:8443/pi 12ms\n\
            npm error code ENOTFOUND\n\
            npm error request to https://user:tok3n@packages.example.org:8443/pi failed, reason: getaddrinfo ENOTFOUND packages.example.org\n\
            npm error connect ECONNREFUSED 10.1.2.3:8443\n\
            npm error A complete log of this run can be found in: /home/x/.npm/_logs/y-debug-0.log\n";
        let words = last_words(log);
        for secret in ["example.org", "tok3n", "10.1.2.3", "/home/x"] {
            assert!(!words.contains(secret), "{words}");
        }
        assert!(words.contains("getaddrinfo ENOTFOUND <registry>"), "{words}");
        assert!(hint(log).contains("--from DIR"));
    }

    #[test]
    fn without_error_lines_the_last_lines_are_shown_and_bounded() {
        let lines: Vec<String> = (0..100)
            .map(|n| format!("line {n} {}", "x".repeat(1000)))
            .collect();
        let log = lines.join(
            "
",
        );
        let words = last_words(&log);
        assert_eq!(words.lines().count(), LINES);
        assert!(words.contains("line 99") && !words.contains("line 80"));
        assert!(words.lines().all(|line| line.len() < LINE_BYTES + 8));
    }
}
