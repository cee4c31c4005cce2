//! The committed TypeScript types are those of the Rust types.

use std::path::Path;

#[test]
fn generated_types_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../frontend/src/protocol/generated.ts");
    let rendered = lodge_proto::typescript::render();
    if std::env::var_os("LODGE_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == rendered,
        "{} is stale: run `just gen-types`",
        path.display()
    );
}
