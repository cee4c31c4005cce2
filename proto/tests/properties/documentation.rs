//! The protocol's page names everything that the types know.

use lodge_proto::ErrorCode;
use std::collections::BTreeSet;
use std::path::Path;

/// The tags of a type, as its generated declaration lists them.
pub(crate) fn tags(name: &str, field: &str) -> BTreeSet<String> {
    let module = lodge_proto::typescript::render();
    let declaration = module
        .split("export type ")
        .find(|text| text.starts_with(&format!("{name} =")));
    let declaration = declaration.unwrap_or_else(|| panic!("{name} has no declaration"));
    let quoted = format!("\"{field}\": \"");
    let tags: BTreeSet<String> = declaration
        .split(&quoted)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    assert!(tags.len() >= 3, "{name} lists {tags:?}");
    tags
}

#[test]
fn every_name_is_on_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/protocol.md");
    let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names = Vec::new();
    for (ty, field) in [
        ("EventBody", "event"),
        ("CommandBody", "cmd"),
        ("Part", "type"),
        ("InputKind", "kind"),
        ("ToClient", "type"),
        ("Verdict", "verdict"),
    ] {
        names.extend(tags_of_any(ty, field));
    }
    names.extend(ErrorCode::ALL.iter().map(|code| code.as_str().to_owned()));
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "{} does not name {missing:?}", path.display());
}

#[test]
fn every_error_code_has_its_numbers_on_the_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/protocol.md");
    let page = std::fs::read_to_string(path).expect("the protocol's page");
    for code in ErrorCode::ALL {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{code}` |")));
        let row = row.unwrap_or_else(|| panic!("`{code}` has no row"));
        let numbers = format!("| {} | {} |", code.http_status(), code.exit_code());
        assert!(row.contains(&numbers), "{row}\nshould have {numbers}");
    }
}

fn tags_of_any(name: &str, field: &str) -> BTreeSet<String> {
    let tags = tags(name, field);
    // The pattern of extension parts is documented as `x-…`.
    tags.into_iter().filter(|tag| !tag.starts_with("x-")).collect()
}
