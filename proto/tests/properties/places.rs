//! Strategies for files, Git, terminals, findings, approvals and the choice of a sandbox.

use super::sessions::tier;
use super::strategies::{approval_scope, id, made, small, text, value};
use lodge_proto::command::CommandBody;
use lodge_proto::event::NetworkDecision;
use lodge_proto::input::Approval;
use lodge_proto::sandbox::{ProfileChoice, SandboxChoices, TierChoice};
use lodge_proto::workspace::{
    FileContent, FileEntry, FileKind, FileListing, FileWritten, Finding, FindingKind, GitDiff, GitEntry,
    GitStatus, NetworkPlace, NetworkSummary, SeenFinding, TerminalExit, TerminalInfo,
};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

pub(crate) fn commands() -> Vec<BoxedStrategy<CommandBody>> {
    let (rows, cols) = (any::<u16>, any::<u16>);
    let terminal = any::<u32>;
    vec![
        made!(CommandBody::SandboxList {}),
        made!(CommandBody::ApprovalsList {}),
        made!(CommandBody::ApprovalsForget {
            approval_id: of(id())
        }),
        made!(CommandBody::TerminalOpen {
            rows: rows(),
            cols: cols()
        }),
        made!(CommandBody::TerminalAttach {
            terminal_id: terminal()
        }),
        made!(CommandBody::TerminalResize {
            terminal_id: terminal(),
            rows: rows(),
            cols: cols()
        }),
        made!(CommandBody::TerminalClose {
            terminal_id: terminal()
        }),
        made!(CommandBody::TerminalList {}),
        made!(CommandBody::FileList { path: text() }),
        made!(CommandBody::FileRead {
            path: text(),
            offset: of(any::<u64>()),
            limit: of(any::<u32>())
        }),
        made!(CommandBody::FileWrite {
            path: text(),
            text: text(),
            expected_version: of(text())
        }),
        made!(CommandBody::GitStatus {}),
        made!(CommandBody::GitDiff {
            path: of(text()),
            staged: of(any::<bool>())
        }),
    ]
}

fn entry() -> BoxedStrategy<FileEntry> {
    use FileKind::{Directory, File, Special, Symlink};
    made!(FileEntry {
        name: text(),
        kind: select(vec![File, Directory, Symlink, Special]),
        size: any::<u64>(),
        modified: any::<u64>(),
        target: of(text())
    })
}

pub(crate) fn listing() -> BoxedStrategy<FileListing> {
    made!(FileListing {
        path: text(),
        entries: small(entry()),
        truncated: any::<bool>()
    })
}

pub(crate) fn content() -> BoxedStrategy<FileContent> {
    made!(FileContent {
        path: text(),
        size: any::<u64>(),
        version: text(),
        binary: any::<bool>(),
        text: of(text()),
        offset: any::<u64>(),
        next_offset: of(any::<u64>())
    })
}

pub(crate) fn written() -> BoxedStrategy<FileWritten> {
    made!(FileWritten {
        path: text(),
        size: any::<u64>(),
        version: text()
    })
}

pub(crate) fn git_status() -> BoxedStrategy<GitStatus> {
    let entry = || {
        made!(GitEntry {
            path: text(),
            original_path: of(text()),
            index: text(),
            worktree: text()
        })
    };
    made!(GitStatus {
        repository: any::<bool>(),
        branch: of(text()),
        upstream: of(text()),
        ahead: any::<u32>(),
        behind: any::<u32>(),
        entries: small(entry()),
        truncated: any::<bool>()
    })
}

pub(crate) fn git_diff() -> BoxedStrategy<GitDiff> {
    made!(GitDiff {
        text: text(),
        truncated: any::<bool>()
    })
}

pub(crate) fn terminal() -> BoxedStrategy<TerminalInfo> {
    made!(TerminalInfo {
        terminal_id: any::<u32>(),
        rows: any::<u16>(),
        cols: any::<u16>(),
        opened_at: any::<u64>()
    })
}

pub(crate) fn terminal_exit() -> BoxedStrategy<TerminalExit> {
    made!(TerminalExit {
        code: of(any::<i32>()),
        signal: of(any::<i32>()),
        reason: of(text())
    })
}

pub(crate) fn finding() -> BoxedStrategy<Finding> {
    use FindingKind::{ControlFile, HardLink, Hook, NestedRepository, SetUid, SpecialFile};
    made!(Finding {
        kind: select(vec![
            ControlFile,
            Hook,
            HardLink,
            NestedRepository,
            SpecialFile,
            SetUid
        ]),
        path: text(),
        detail: text()
    })
}

pub(crate) fn seen_finding() -> BoxedStrategy<SeenFinding> {
    made!(SeenFinding {
        finding: finding(),
        at: any::<u64>()
    })
}

pub(crate) fn network_summary() -> BoxedStrategy<NetworkSummary> {
    use NetworkDecision::{Allowed, Asked, Denied};
    let place = made!(NetworkPlace {
        host: text(),
        port: any::<u16>(),
        decision: select(vec![Allowed, Denied, Asked]),
        rule: text(),
        reason: text(),
        connections: any::<u64>(),
        sent_bytes: any::<u64>(),
        received_bytes: any::<u64>(),
        last_at: any::<u64>(),
    });
    made!(NetworkSummary {
        allowed: any::<u64>(),
        denied: any::<u64>(),
        places: small(place)
    })
}

pub(crate) fn approval() -> BoxedStrategy<Approval> {
    made!(Approval {
        id: id(),
        scope: approval_scope(),
        session_id: of(id()),
        harness: text(),
        workspace: text(),
        tool: text(),
        subject: value(),
        created_at: any::<u64>()
    })
}

pub(crate) fn choices() -> BoxedStrategy<SandboxChoices> {
    let tiers = made!(TierChoice {
        tier: tier(),
        usable: any::<bool>(),
        problem: of(text()),
        mend: of(text()),
        notice: of(text())
    });
    let profiles = made!(ProfileChoice {
        name: text(),
        tier: tier(),
        network: text(),
        summary: text()
    });
    made!(SandboxChoices {
        tiers: small(tiers),
        profiles: small(profiles),
        default_tier: tier(),
        default_profile: text()
    })
}
