//! Which modules go into the initramfs, and in which order they can be loaded.

use std::collections::BTreeMap;

use super::KernelError;

/// What the machine's devices and the guest's file view need.
pub(super) const WANTED: &[&str] = &[
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "squashfs",
    "overlay",
    "9pnet_virtio",
    "9p",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// A module's own name for what `path` holds; files and names differ in `-` and `_`.
pub(super) fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, rest) = file.split_once('.')?;
    matches!(rest, "ko" | "ko.xz" | "ko.zst").then(|| name.replace('-', "_"))
}

/// Of all that is `there`, what is wanted and what that depends on, each after its dependencies; what is built into
/// the kernel needs no loading.
pub(super) fn ordered(
    mut there: BTreeMap<String, Vec<u8>>,
    builtin: &[String],
) -> Result<Vec<Module>, KernelError> {
    let mut order = Vec::new();
    for wanted in WANTED {
        visit(wanted, wanted, &there, builtin, &mut Vec::new(), &mut order)?;
    }
    let taken = order.into_iter().filter_map(|name| {
        let content = there.remove(&name)?;
        Some(Module { name, content })
    });
    Ok(taken.collect())
}

fn visit(
    name: &str,
    by: &str,
    there: &BTreeMap<String, Vec<u8>>,
    builtin: &[String],
    above: &mut Vec<String>,
    order: &mut Vec<String>,
) -> Result<(), KernelError> {
    if order.iter().any(|done| done == name) || builtin.iter().any(|known| known == name) {
        return Ok(());
    }
    if above.iter().any(|parent| parent == name) {
        return Err(KernelError::Circle {
            name: name.to_owned(),
        });
    }
    let content = there.get(name).ok_or_else(|| KernelError::Dependency {
        name: by.to_owned(),
        wants: name.to_owned(),
    })?;
    above.push(name.to_owned());
    for dependency in dependencies(content) {
        visit(&dependency, name, there, builtin, above, order)?;
    }
    above.pop();
    order.push(name.to_owned());
    Ok(())
}

/// What a module says in its information section: `depends=a,b`.
pub(super) fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|part| part == KEY) else {
        return Vec::new();
    };
    let rest = &module[at + KEY.len()..];
    let text = rest.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn there(modules: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let content =
            |depends: &str| format!("\x7fELF\0license=GPL\0depends={depends}\0name=x\0").into_bytes();
        modules
            .iter()
            .map(|(name, depends)| ((*name).to_owned(), content(depends)))
            .collect()
    }

    fn full() -> Vec<(&'static str, &'static str)> {
        vec![
            ("virtio", "virtio_ring"),
            ("virtio_ring", ""),
            ("virtio_mmio", "virtio,virtio_ring"),
            ("virtio_console", "virtio,virtio_ring"),
            ("virtio_blk", "virtio"),
            ("squashfs", ""),
            ("overlay", ""),
            ("9pnet", ""),
            ("9pnet_virtio", "virtio,9pnet"),
            ("9p", "9pnet,fscache"),
            ("unrelated", ""),
        ]
    }

    #[test]
    fn dependencies_come_first_and_nothing_else_comes() {
        let order = ordered(there(&full()), &["fscache".to_owned()]).unwrap();
        let names: Vec<&str> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "virtio_ring",
                "virtio",
                "virtio_mmio",
                "virtio_console",
                "virtio_blk",
                "squashfs",
                "overlay",
                "9pnet",
                "9pnet_virtio",
                "9p"
            ]
        );
    }

    #[test]
    fn what_is_missing_or_circular_is_named() {
        let missing = ordered(there(&full()), &[]).unwrap_err();
        assert!(
            matches!(&missing, KernelError::Dependency { name, wants } if name == "9p" && wants == "fscache"),
            "{missing}"
        );
        let mut circular = full();
        circular[1].1 = "virtio";
        let circle = ordered(there(&circular), &["fscache".to_owned()]).unwrap_err();
        assert!(matches!(circle, KernelError::Circle { .. }), "{circle}");
    }

    #[test]
    fn files_have_the_names_of_modules() {
        assert_eq!(name("a/b/virtio-mmio.ko"), Some("virtio_mmio".to_owned()));
        assert_eq!(name("9p.ko.xz"), Some("9p".to_owned()));
        assert_eq!(name("modules.dep"), None);
    }
}
