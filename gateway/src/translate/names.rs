//! Names of tools, as every dialect takes them: letters, digits, `_` and `-`, at most 64, in no groups. Each name that
//! changes is known by both of its forms, so that a call comes back as the caller named it.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Call, Chat, Choice, Part, ToolKind};

/// Bytes of a name, in the dialect that takes the fewest.
const MAX: usize = 64;
/// Of what tells two tools apart whose names would be the same, in bytes.
const MARK: usize = 12;

/// A tool as the caller knows it: group, name, and what it takes.
type Own = (Option<String>, String, ToolKind);

/// Tools whose names, or arguments, differ on the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(BTreeMap<String, Own>);

impl Names {
    /// Has the request name its tools as the provider may read them.
    pub(super) fn plain(chat: &mut Chat) -> Self {
        let mut given = Given::default();
        for tool in &mut chat.tools {
            let own = (tool.namespace.take(), std::mem::take(&mut tool.name), tool.kind);
            tool.name = given.name(own);
        }
        for part in chat.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            if let Part::Call(call) = part {
                // The tool may not be there any more, or be another kind by now.
                let name = std::mem::take(&mut call.name);
                call.name = given.known(call.namespace.take(), name, call.kind);
            }
        }
        if let Choice::Tool(name) = &mut chat.choice {
            *name = given.known(None, std::mem::take(name), ToolKind::Function);
        }
        given.names
    }

    /// A call as the caller knows it.
    pub(super) fn own(&self, call: &mut Call) {
        if let Some((namespace, name, kind)) = self.0.get(&call.name) {
            (call.namespace, call.name, call.kind) = (namespace.clone(), name.clone(), *kind);
        }
    }
}

#[derive(Default)]
struct Given {
    names: Names,
    by_own: BTreeMap<(Option<String>, String), String>,
    taken: BTreeSet<String>,
}

impl Given {
    fn name(&mut self, own: Own) -> String {
        let key = (own.0.clone(), own.1.clone());
        if let Some(known) = self.by_own.get(&key) {
            return known.clone();
        }
        let joined = match &own.0 {
            // Groups of servers already end in what separates them from a name.
            Some(group) if group.ends_with("__") => format!("{group}{}", own.1),
            Some(group) => format!("{group}__{}", own.1),
            None => own.1.clone(),
        };
        let plain = self.free(cleaned(&joined), &key);
        self.taken.insert(plain.clone());
        self.by_own.insert(key, plain.clone());
        if own.0.is_some() || own.1 != plain || own.2 != ToolKind::Function {
            self.names.0.insert(plain.clone(), own);
        }
        plain
    }

    fn known(&mut self, namespace: Option<String>, name: String, kind: ToolKind) -> String {
        self.name((namespace, name, kind))
    }

    /// The name; where another tool has it, the same with a mark of the tool it is for.
    fn free(&self, plain: String, (group, name): &(Option<String>, String)) -> String {
        if !self.taken.contains(&plain) {
            return plain;
        }
        let mut hash = blake3::Hasher::new();
        hash.update(group.as_deref().unwrap_or_default().as_bytes());
        hash.update(&[0]);
        hash.update(name.as_bytes());
        let mark = hash.finalize().to_hex();
        let kept: String = plain.chars().take(MAX - MARK - 1).collect();
        format!("{kept}_{}", &mark[..MARK])
    }
}

/// Only ASCII, and not a digit first.
fn cleaned(name: &str) -> String {
    let clean = |char: char| {
        if char.is_ascii_alphanumeric() || char == '_' || char == '-' {
            char
        } else {
            '_'
        }
    };
    let mut plain: String = name.chars().map(clean).collect();
    if !plain.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_') {
        plain.insert(0, '_');
    }
    plain.truncate(MAX);
    plain
}
