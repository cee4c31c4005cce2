//! Strategies for what a workspace brings as code.

use super::strategies::{made, small, text};
use lodge_proto::command::CommandBody;
use lodge_proto::trust::{CodeChange, CodeChangeKind, CodeFile, TrustedCode, WorkspaceCode};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn commands() -> Vec<BoxedStrategy<CommandBody>> {
    vec![
        made!(CommandBody::WorkspaceInspect {
            workspace: text(),
            harness: text()
        }),
        made!(CommandBody::WorkspaceTrust {
            workspace: text(),
            harness: text(),
            digest: text()
        }),
        made!(CommandBody::WorkspaceDistrust {
            workspace: text(),
            harness: text(),
            digest: of(text())
        }),
        made!(CommandBody::WorkspaceTrusted {}),
    ]
}

pub(crate) fn code() -> BoxedStrategy<WorkspaceCode> {
    let file = made!(CodeFile {
        path: text(),
        size: any::<u64>(),
        mode: any::<u32>(),
        sha256: text(),
        named: any::<bool>(),
        text: of(text())
    });
    let kinds = vec![
        CodeChangeKind::Added,
        CodeChangeKind::Removed,
        CodeChangeKind::Changed,
    ];
    let change = made!(CodeChange {
        path: text(),
        change: select(kinds)
    });
    made!(WorkspaceCode {
        workspace: text(),
        harness: text(),
        files: small(file),
        left_out: small(text()),
        digest: of(text()),
        trusted: any::<bool>(),
        trustable: any::<bool>(),
        reason: of(text()),
        changed: small(change)
    })
}

pub(crate) fn trusted() -> BoxedStrategy<TrustedCode> {
    made!(TrustedCode {
        workspace: text(),
        harness: text(),
        digest: text(),
        files: small(text()),
        file_count: any::<u32>(),
        created_at: any::<u64>()
    })
}
