//! Files of a workspace, through the sandbox: what is there, and what a hostile workspace makes of it.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::workspace::{FileContent, FileKind, FileListing, FileWritten};
use lodge_proto::{ErrorCode, SessionId};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};

fn read(path: &str) -> CommandBody {
    CommandBody::FileRead {
        path: path.to_owned(),
        offset: None,
        limit: None,
    }
}

fn write(path: &str, text: &str, expected_version: Option<&str>) -> CommandBody {
    CommandBody::FileWrite {
        path: path.to_owned(),
        text: text.to_owned(),
        expected_version: expected_version.map(str::to_owned),
    }
}

async fn list(world: &mut World, id: SessionId, path: &str) -> FileListing {
    let body = CommandBody::FileList {
        path: path.to_owned(),
    };
    serde_json::from_value(world.ok(id, body).await).unwrap()
}

async fn content(world: &mut World, id: SessionId, body: CommandBody) -> FileContent {
    serde_json::from_value(world.ok(id, body).await).unwrap()
}

#[tokio::test]
async fn a_file_is_listed_read_and_replaced() {
    let mut world = World::new();
    let workspace = world.rig.workspace("files");
    std::fs::create_dir(workspace.join("sub")).unwrap();
    std::fs::write(workspace.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(workspace.join("run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    let id = world.session("files").await;
    let listing = list(&mut world, id, "").await;
    let found: Vec<(&str, FileKind)> = listing
        .entries
        .iter()
        .filter(|entry| !entry.name.starts_with('.'))
        .map(|entry| (entry.name.as_str(), entry.kind))
        .collect();
    assert_eq!(found, [("sub", FileKind::Directory), ("run.sh", FileKind::File)]);
    let before = content(&mut world, id, read("run.sh")).await;
    assert_eq!(
        (before.text.as_deref(), before.binary),
        (Some("#!/bin/sh\n"), false)
    );
    let written: FileWritten = serde_json::from_value(
        world
            .ok(id, write("run.sh", "#!/bin/sh\necho ä\n", Some(&before.version)))
            .await,
    )
    .unwrap();
    let after = content(&mut world, id, read("run.sh")).await;
    assert_eq!(after.version, written.version);
    assert_eq!(
        std::fs::read_to_string(workspace.join("run.sh")).unwrap(),
        "#!/bin/sh\necho ä\n"
    );
    let mode = std::fs::metadata(workspace.join("run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o755, "it can still be run");
    let stale = world
        .refused(id, write("run.sh", "x", Some(&before.version)))
        .await;
    assert_eq!(stale.code, ErrorCode::Conflict);
    world.ok(id, write("sub/new", "", Some(""))).await;
    let again = world.refused(id, write("sub/new", "x", Some(""))).await;
    assert_eq!(again.code, ErrorCode::Conflict);
    let left: Vec<_> = std::fs::read_dir(workspace.join("sub"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["new"], "no temporary file is left");
    world.finish();
}

#[tokio::test]
async fn nothing_leads_out_of_the_workspace() {
    let mut world = World::new();
    let workspace = world.rig.workspace("escape");
    let outside = world.rig.root().join("outside.txt");
    std::fs::write(&outside, "precious").unwrap();
    std::fs::create_dir(workspace.join("real")).unwrap();
    std::fs::write(workspace.join("real/file"), "inside").unwrap();
    for (name, target) in [
        ("absolute", "/etc/passwd"),
        ("relative", "../../../../outside.txt"),
        ("folder", "/etc"),
        ("inside", "real"),
        ("proc", "/proc/self/environ"),
    ] {
        std::os::unix::fs::symlink(target, workspace.join(name)).unwrap();
    }
    let id = world.session("escape").await;
    let refused = world.refused(id, read("relative")).await;
    assert_eq!(
        refused.code,
        ErrorCode::NotFound,
        "it is not in the sandbox at all"
    );
    for path in ["absolute", "folder/passwd", "../escape/real/file", "..", "proc"] {
        let refused = world.refused(id, read(path)).await;
        assert_eq!(refused.code, ErrorCode::SandboxDenied, "{path}: {refused:?}");
    }
    let refused = world.refused(id, read("/etc/passwd")).await;
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    assert_eq!(
        content(&mut world, id, read("inside/file")).await.text.as_deref(),
        Some("inside"),
        "a link within the workspace is followed to read"
    );
    for path in [
        "absolute",
        "relative",
        "inside/file",
        "inside",
        "folder/x",
        "../x",
    ] {
        let refused = world.refused(id, write(path, "overwritten", None)).await;
        assert_eq!(refused.code, ErrorCode::SandboxDenied, "{path}: {refused:?}");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
    assert_eq!(
        std::fs::read_to_string(workspace.join("real/file")).unwrap(),
        "inside"
    );
    let listing = list(&mut world, id, "").await;
    let link = listing
        .entries
        .iter()
        .find(|entry| entry.name == "relative")
        .unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    assert_eq!(link.target.as_deref(), Some("../../../../outside.txt"));
    world.finish();
}

#[tokio::test]
async fn names_and_contents_may_be_anything() {
    let mut world = World::new();
    let workspace = world.rig.workspace("names");
    let hostile = [
        "-rf",
        "a\nb",
        "$(id)",
        "\"quoted\"",
        " ",
        "é",
        "\u{1b}[31m",
        "...",
    ];
    for name in hostile {
        std::fs::write(workspace.join(name), name).unwrap();
    }
    let raw = std::ffi::OsStr::from_bytes(b"raw-\xff");
    std::fs::write(workspace.join(raw), "x").unwrap();
    std::fs::write(workspace.join("binary"), b"\x7fELF\0\xff").unwrap();
    std::fs::write(workspace.join("long"), "ä".repeat(800_000)).unwrap();
    let id = world.session("names").await;
    let listing = list(&mut world, id, "").await;
    for name in hostile {
        assert!(listing.entries.iter().any(|entry| entry.name == name), "{name:?}");
        let read = content(&mut world, id, read(name)).await;
        assert_eq!(read.text.as_deref(), Some(name));
        world.ok(id, write(name, "new", Some(&read.version))).await;
        assert_eq!(std::fs::read_to_string(workspace.join(name)).unwrap(), "new");
    }
    assert!(listing.entries.iter().any(|entry| entry.name == "raw-\u{fffd}"));
    let binary = content(&mut world, id, read("binary")).await;
    assert_eq!((binary.binary, binary.text, binary.size), (true, None, 6));
    let mut offset = None;
    let mut whole = String::new();
    loop {
        let body = CommandBody::FileRead {
            path: "long".to_owned(),
            offset,
            limit: Some(500_001),
        };
        let slice = content(&mut world, id, body).await;
        whole.push_str(&slice.text.expect("a slice ends with a whole character"));
        offset = slice.next_offset;
        if offset.is_none() {
            break;
        }
    }
    assert_eq!(whole, "ä".repeat(800_000));
    world.finish();
}

#[tokio::test]
async fn what_is_no_plain_file_is_refused_at_once() {
    let mut world = World::new();
    let workspace = world.rig.workspace("special");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        workspace.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    std::fs::create_dir(workspace.join("folder")).unwrap();
    std::fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
    std::fs::write(workspace.join(".git/config"), "[core]\n").unwrap();
    let id = world.session("special").await;
    for path in ["pipe", "folder"] {
        let refused = world.refused(id, read(path)).await;
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{path}: {refused:?}");
        let refused = world.refused(id, write(path, "x", None)).await;
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{path}: {refused:?}");
    }
    for path in ["missing", "missing/below"] {
        assert_eq!(world.refused(id, read(path)).await.code, ErrorCode::NotFound);
    }
    for path in [".git/config", ".git/hooks/pre-commit"] {
        let refused = world.refused(id, write(path, "x", None)).await;
        assert_eq!(refused.code, ErrorCode::SandboxDenied, "{path}: {refused:?}");
    }
    for path in ["folder/..", "folder/", ""] {
        assert_eq!(
            world.refused(id, write(path, "x", None)).await.code,
            ErrorCode::InvalidArgument,
            "{path}"
        );
    }
    let kind = std::fs::symlink_metadata(workspace.join("pipe"))
        .unwrap()
        .file_type();
    assert!(kind.is_fifo());
    world.finish();
}
