//! Removing what a killed `lodge-tier` left: its container, should that not have gone by itself, and its directory.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;

use super::error::ContainerError;
use super::owner::Owner;
use super::{Container, stage};

const LABEL_STATE: &str = "lodge.state";
const LABEL_OWNER: &str = "lodge.owner";

/// What a container of this installation carries. Nothing of it is secret.
pub(super) fn labels(state: &Path, owner: Owner) -> Result<HashMap<String, String>, ContainerError> {
    Ok(HashMap::from([
        (LABEL_STATE.to_owned(), identity(state)?),
        (LABEL_OWNER.to_owned(), owner.to_string()),
    ]))
}

/// Tells installations apart that use the same engine, without naming a path.
fn identity(state: &Path) -> Result<String, ContainerError> {
    let meta = std::fs::metadata(state).map_err(ContainerError::file("look at", state))?;
    Ok(format!("{:x}-{:x}", meta.dev(), meta.ino()))
}

/// Removes the containers and directories below `state` whose owner is gone; gives the number of containers.
pub(super) async fn sweep(docker: &Docker, state: &Path) -> Result<usize, ContainerError> {
    let filter = format!("{LABEL_STATE}={}", identity(state)?);
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![filter])])),
        ..ListContainersOptions::default()
    };
    let found = docker
        .list_containers(Some(options))
        .await
        .map_err(ContainerError::engine("list containers"))?;
    let mut removed = 0;
    for container in found {
        let labels = container.labels.unwrap_or_default();
        let owner: Option<Owner> = labels.get(LABEL_OWNER).and_then(|text| text.parse().ok());
        if let Some(id) = container.id.filter(|_| !owner.is_some_and(Owner::lives)) {
            Container::known(docker, id).remove().await?;
            removed += 1;
        }
    }
    directories(state);
    Ok(removed)
}

/// After the containers: these may still use what is in the directories.
fn directories(state: &Path) {
    for folder in stage::entries(&state.join(stage::FOLDER)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name.parse().is_ok_and(|owner: Owner| !owner.lives()) {
            stage::remove(&folder);
        }
    }
}
