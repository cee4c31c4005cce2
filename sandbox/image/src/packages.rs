//! Which packages are in a root file system, as dpkg wrote it down there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::ImageError;

/// Far more than dpkg writes for a large system, in bytes.
const MAX_STATUS: u64 = 64 << 20;

/// Every installed package with its version.
pub(crate) fn read(archive: &Path) -> Result<BTreeMap<String, String>, ImageError> {
    let failed = || ImageError::file("read", archive);
    let file = File::open(archive).map_err(failed())?;
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek().map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let path = entry.path().map_err(failed())?;
        if path.strip_prefix(".").unwrap_or(&path) == Path::new("var/lib/dpkg/status") {
            let mut text = String::new();
            entry
                .take(MAX_STATUS)
                .read_to_string(&mut text)
                .map_err(failed())?;
            return Ok(parse(&text));
        }
    }
    Err(ImageError::Damaged {
        path: archive.to_owned(),
        reason: "it has no list of packages".to_owned(),
    })
}

fn parse(status: &str) -> BTreeMap<String, String> {
    let field = |paragraph: &str, name: &str| {
        paragraph
            .lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
    };
    status
        .split("\n\n")
        .filter(|paragraph| field(paragraph, "Status").is_some_and(|status| status.ends_with(" installed")))
        .filter_map(|paragraph| Some((field(paragraph, "Package")?, field(paragraph, "Version")?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\n\n\
            Package: b\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: c\nStatus: install ok installed\nVersion: 4\n";
        let found: Vec<_> = parse(status).into_iter().collect();
        assert_eq!(found, [("a".into(), "1:2-3".into()), ("c".into(), "4".into())]);
    }
}
