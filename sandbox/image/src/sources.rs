//! Where packages come from: what apt of this machine uses for the recipe's suite. It goes into no image.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::ImageError;

/// The key of Debian's archive where the package `debian-archive-keyring` puts it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One source of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub uri: String,
    pub suite: String,
    pub components: Vec<String>,
    /// File with the key that signs it; apt's own trust when absent.
    pub signed_by: Option<String>,
}

/// The sources of `suite` that `/etc/apt` names, or those of `mirror`.
pub fn find(suite: &str, mirror: Option<&str>) -> Result<Vec<Source>, ImageError> {
    if let Some(mirror) = mirror {
        return of_mirror(suite, mirror);
    }
    let found: Vec<Source> = files(Path::new("/etc/apt"))
        .iter()
        .filter_map(|path| Some((path, std::fs::read_to_string(path).ok()?)))
        .flat_map(|(path, text)| {
            if path.extension().is_some_and(|end| end == "sources") {
                deb822(&text)
            } else {
                one_line(&text)
            }
        })
        .filter(|source| belongs(&source.suite, suite))
        .collect();
    if found.iter().any(|source| source.suite == suite) {
        Ok(found)
    } else {
        Err(ImageError::NoSource {
            suite: suite.to_owned(),
        })
    }
}

fn of_mirror(suite: &str, mirror: &str) -> Result<Vec<Source>, ImageError> {
    let address = mirror.starts_with("http://") || mirror.starts_with("https://");
    if !address || mirror.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ImageError::Mirror {
            mirror: mirror.to_owned(),
        });
    }
    Ok(vec![Source {
        uri: mirror.to_owned(),
        suite: suite.to_owned(),
        components: vec!["main".to_owned()],
        signed_by: Some(KEYRING.to_owned()),
    }])
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let parts = std::fs::read_dir(folder.join("sources.list.d"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = parts
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "list" || end == "sources")
        })
        .collect();
    files.sort();
    files.insert(0, folder.join("sources.list"));
    files
}

fn belongs(found: &str, suite: &str) -> bool {
    match found.strip_prefix(suite) {
        Some(rest) => matches!(rest, "" | "-updates" | "-security"),
        None => false,
    }
}

/// apt's newer format: paragraphs of `Key: values`.
fn deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .flat_map(paragraph)
        .collect()
}

fn paragraph(lines: &[&str]) -> Vec<Source> {
    let words = |key: &str| -> Vec<String> {
        let value = lines.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(key).then_some(value)
        });
        value
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    if !words("Types").iter().any(|kind| kind == "deb") || words("Enabled") == ["no"] {
        return Vec::new();
    }
    let (suites, components) = (words("Suites"), words("Components"));
    let signed_by = words("Signed-By").into_iter().find(|file| file.starts_with('/'));
    words("URIs")
        .iter()
        .flat_map(|uri| {
            suites.iter().map(|suite| Source {
                uri: uri.clone(),
                suite: suite.clone(),
                components: components.clone(),
                signed_by: signed_by.clone(),
            })
        })
        .collect()
}

/// apt's older format: `deb [options] URI suite component…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suite: words.next()?,
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// `sources` in apt's newer format, reduced to the component `main`.
pub fn write(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources
        .iter()
        .filter(|source| source.components.iter().any(|c| c == "main"))
    {
        let Source { uri, suite, .. } = source;
        let _ = write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n"
        );
        if let Some(file) = &source.signed_by {
            let _ = writeln!(text, "Signed-By: {file}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: &str = "# a comment\nTypes: deb\nURIs: http://one.example/debian\nSuites: bookworm bookworm-updates\n\
        Components: main contrib\nSigned-By: /k.gpg\n\nTypes: deb-src\nURIs: http://two.example\nSuites: bookworm\n\
        Components: main\n\nTypes: deb\nEnabled: no\nURIs: http://three.example\nSuites: bookworm\nComponents: main\n";
    const OLDER: &str = "#deb http://off.example bookworm main\n\
        deb [arch=amd64 signed-by=/k.gpg] http://one.example/s bookworm-security main\ndeb-src http://x.example bookworm main\n\
        deb http://other.example jammy main universe\n";

    fn seen(sources: &[Source]) -> Vec<(&str, &str)> {
        sources
            .iter()
            .map(|source| (source.uri.as_str(), source.suite.as_str()))
            .collect()
    }

    #[test]
    fn both_formats_are_read() {
        let newer = deb822(NEWER);
        assert_eq!(
            seen(&newer),
            [
                ("http://one.example/debian", "bookworm"),
                ("http://one.example/debian", "bookworm-updates")
            ]
        );
        let older = one_line(OLDER);
        assert_eq!(
            seen(&older),
            [
                ("http://one.example/s", "bookworm-security"),
                ("http://other.example", "jammy")
            ]
        );
        assert_eq!(older[0].signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!(
            write(&newer[..1]),
            "Types: deb\nURIs: http://one.example/debian\nSuites: bookworm\nComponents: main\nSigned-By: /k.gpg\n\n"
        );
    }

    #[test]
    fn only_parts_of_the_suite_belong_to_it() {
        for (found, wanted) in [
            ("bookworm", true),
            ("bookworm-security", true),
            ("bookworm-backports", false),
            ("trixie", false),
        ] {
            assert_eq!(belongs(found, "bookworm"), wanted, "{found}");
        }
    }

    #[test]
    fn a_mirror_is_an_address() {
        assert!(find("bookworm", Some("http://mirror.example/debian")).is_ok());
        for bad in ["file:///x", "http://a b", "http://a\nTrusted: yes", ""] {
            assert!(
                matches!(find("bookworm", Some(bad)), Err(ImageError::Mirror { .. })),
                "{bad:?}"
            );
        }
    }
}
