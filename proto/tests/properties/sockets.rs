//! The Unix sockets of every part.

use lodge_proto::sock::{self, SockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

#[test]
fn a_path_without_a_name_or_a_directory_is_refused() {
    assert!(matches!(
        sock::bind(Path::new("/")),
        Err(SockError::NoName { .. })
    ));
    assert!(matches!(
        sock::connect(Path::new("..")),
        Err(SockError::NoName { .. })
    ));
    let root = tempfile::tempdir().unwrap();
    let nowhere = root.path().join("missing/x.sock");
    assert!(matches!(sock::bind(&nowhere), Err(SockError::Directory { .. })));
    assert!(matches!(
        sock::connect(&nowhere),
        Err(SockError::Directory { .. })
    ));
}

#[test]
fn a_name_in_the_working_directory_is_a_path() {
    // `x.sock` has the parent "": it means the working directory, not nothing.
    let error = sock::connect(Path::new("lodge-no-such.sock")).unwrap_err();
    assert!(matches!(error, SockError::Connect { .. }), "{error:?}");
}

#[test]
fn errors_name_the_path() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.sock");
    let error = sock::connect(&path).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_directory_in_the_way_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.sock");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(sock::bind(&path), Err(SockError::RemoveStale { .. })));
    assert!(path.is_dir());
}

#[test]
fn the_longest_names_that_a_file_system_takes_work() {
    let root = tempfile::tempdir().unwrap();
    let mut directory = root.path().to_owned();
    for _ in 0..4 {
        directory.push("d".repeat(250));
    }
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("gateway.sock");
    let listener = sock::bind(&path).unwrap();
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let mut client = sock::connect(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hi").unwrap();
    drop(server);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hi");
    assert_eq!(sock::peer_uid(&client).unwrap(), sock::own_uid());
}
