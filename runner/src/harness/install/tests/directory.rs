//! Installations from a directory, and the real thing from the registry.

use super::super::{Installer, Source, cache, lockfile, testing};
use super::{Bench, Heard};
use crate::harness::install::InstallError;
use base64::Engine as _;
use sha2::{Digest as _, Sha512};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// An npm cache with one archive, and the lock file that names it.
fn small_cache(cache: &Path, files: &[(&str, &str)]) -> (lockfile::LockFile, PathBuf) {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        // `set_path` would refuse what this test is about.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    let bytes = builder.into_inner().unwrap().finish().unwrap();
    let digest = Sha512::digest(&bytes);
    let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = digits.concat();
    let blob = cache
        .join("_cacache/content-v2/sha512")
        .join(&hex[..2])
        .join(&hex[2..4])
        .join(&hex[4..]);
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    std::fs::write(&blob, &bytes).unwrap();
    let integrity = base64::engine::general_purpose::STANDARD.encode(digest);
    let text = format!(
        r#"{{"lockfileVersion":3,"packages":{{"node_modules/a":{{"version":"1.0.0","integrity":"sha512-{integrity}"}}}}}}"#
    );
    (lockfile::LockFile::parse("a", "{}", &text).unwrap(), blob)
}

#[test]
fn a_directory_is_unpacked_only_where_it_has_the_hash() {
    let root = tempfile::tempdir().unwrap();
    let (lock, blob) = small_cache(root.path(), &[("package/bin/a", "hello")]);
    let tree = root.path().join("tree");
    cache::unpack_all("pi", root.path(), &tree, &lock, &mut ()).unwrap();
    let file = tree.join("node_modules/a/bin/a");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o111,
        0o111
    );

    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let altered = cache::unpack_all("pi", root.path(), &tree, &lock, &mut ());
    assert!(
        matches!(altered, Err(InstallError::Integrity { .. })),
        "{altered:?}"
    );
    std::fs::remove_file(&blob).unwrap();
    let missing = cache::unpack_all("pi", root.path(), &tree, &lock, &mut ()).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("lodge harness install pi --cache DIR"),
        "{missing}"
    );
}

#[test]
fn an_archive_cannot_leave_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let (lock, _) = small_cache(root.path(), &[("package/../../../../escaped", "x")]);
    let error = cache::unpack_all("pi", root.path(), &root.path().join("tree"), &lock, &mut ()).unwrap_err();
    assert!(matches!(error, InstallError::Archive { .. }), "{error:?}");
    assert!(!root.path().join("escaped").exists());
}

/// With the real npm: the real pi from the registry into a cache, then from that cache into another data directory
/// without npm. Both trees are equal, and the first is the one that other tests use.
#[test]
fn the_real_pi_from_the_registry_and_from_a_directory() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-data");
    let bench = Bench::new();
    let shared = testing::share(&target.join("harness-cache"), &bench.data(), "pi").unwrap();
    let said = std::process::Command::new(&shared.argv0[0])
        .arg(&shared.argv0[1])
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), "0.87.1");

    let npm_cache = bench.root.path().join("npm-cache");
    let online = Installer::new(&bench.root.path().join("online"))
        .unwrap()
        .with_way_out(std::sync::Arc::new(testing::Direct));
    let mut heard = Heard::default();
    let filled = online
        .install(
            "pi",
            &Source::Registry {
                cache: Some(npm_cache.clone()),
            },
            &mut heard,
        )
        .unwrap();
    let (done, total) = *heard.packages.last().unwrap();
    assert_eq!(done, total, "progress reaches its end: {:?}", heard.packages);

    let offline = Installer::new(&bench.root.path().join("offline"))
        .unwrap()
        .with_path("/nonexistent");
    let pi = offline
        .install("pi", &Source::Directory(npm_cache), &mut ())
        .unwrap();
    for (ours, npms) in pi.roots.iter().zip(&filled.roots) {
        let diff = std::process::Command::new("diff")
            .arg("-r")
            .args([ours, npms])
            .output()
            .unwrap();
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    }
    for installer in [online, offline] {
        installer.remove("pi").unwrap();
    }
}
