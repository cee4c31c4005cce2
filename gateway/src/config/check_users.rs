//! `[[user]]`: from what is written to who is meant.

use std::path::Path;

use super::ConfigError;
use super::file::UserEntry;
use crate::people::UserSpec;

pub(super) fn users(file: &Path, entries: Vec<UserEntry>) -> Result<Vec<UserSpec>, ConfigError> {
    let mut users: Vec<UserSpec> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let spec = UserSpec {
            name: entry.name,
            title: entry.title,
            uid: entry.uid,
            team: entry.team,
            org: entry.org,
            rpm: entry.rpm,
            tpm: entry.tpm,
            concurrency: entry.concurrency,
        };
        let error = |message: String| ConfigError::Value {
            file: file.to_owned(),
            key: format!("user[{index}] `{}`", spec.name.escape_debug()),
            message,
        };
        spec.check().map_err(|bad| error(bad.to_string()))?;
        if users.iter().any(|other| other.name == spec.name) {
            return Err(error("name: another user has this name".to_owned()));
        }
        let same_uid = |other: &&UserSpec| spec.uid.is_some() && other.uid == spec.uid;
        if let Some(other) = users.iter().find(same_uid) {
            return Err(error(format!("uid: it is that of the user `{}`", other.name)));
        }
        users.push(spec);
    }
    Ok(users)
}
