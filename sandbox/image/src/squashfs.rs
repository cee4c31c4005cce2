//! The root of the microVM: the same tree, compressed and read-only.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::error::ImageError;
use crate::manifest::Artifact;
use crate::{digest, process};

/// Name of the file in the image's directory.
pub(crate) const FILE: &str = "rootfs.squashfs";
const LIMIT: Duration = Duration::from_mins(15);

/// Turns the archive `rootfs` into a file system image, everything in it owned by root.
///
/// Compression is LZ4: the guest unpacks with emulated instructions where there is no hardware virtualisation, and LZ4
/// costs least. Times stay as they are, because Python's compiled files are valid for one time of their source.
pub(crate) fn pack(rootfs: &Path, epoch: u64, out: &Path) -> Result<Artifact, ImageError> {
    // mksquashfs reads archives too, but then makes up the root directory itself: mode 0777 and the time of now.
    let tree = rootfs.with_extension("tree");
    fs::create_dir(&tree).map_err(ImageError::file("make", &tree))?;
    let mut command = process::command("tar", "sudo apt-get install --yes tar")?;
    command.args([
        "--extract",
        "--same-permissions",
        "--no-same-owner",
        "--delay-directory-restore",
    ]);
    command.arg("--file").arg(rootfs).arg("--directory").arg(&tree);
    process::run("tar", &mut command, &rootfs.with_extension("tar-log"), LIMIT)?;

    let mut command = process::command("mksquashfs", "sudo apt-get install --yes squashfs-tools")?;
    command.arg(&tree).arg(out.join(FILE));
    command.args([
        "-noappend",
        "-reproducible",
        "-all-root",
        "-no-xattrs",
        "-no-progress",
        "-comp",
        "lz4",
    ]);
    command.args(["-mkfs-time", &epoch.to_string()]);
    // Else it refuses the option above.
    command.env_remove("SOURCE_DATE_EPOCH");
    process::run(
        "mksquashfs",
        &mut command,
        &rootfs.with_extension("squashfs-log"),
        LIMIT,
    )?;
    digest::artifact(out, FILE)
}
