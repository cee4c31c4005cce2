//! The TypeScript types of the browser, generated from the Rust types.

use crate::{
    command, cursor, error, event, ids, input, limits, message, part, relay, sandbox, session, trust,
    workspace,
};
use std::fmt::Write as _;
use ts_rs::{Config, TS};

macro_rules! declare {
    ($config:expr, $out:expr, $($ty:ty),* $(,)?) => { $( export::<$ty>($config, $out); )* };
}

/// The whole generated module.
pub fn render() -> String {
    let config = Config::new().with_large_int("number");
    let mut out = String::from(
        "// Generated from the Rust types in `proto/` by `just gen-types`. Do not edit.\n/* eslint-disable */\n\n",
    );
    words(&config, &mut out);
    sessions(&config, &mut out);
    talk(&config, &mut out);
    let _ = writeln!(out, "export const PROTOCOL_VERSION = {};", relay::VERSION);
    let codes: Vec<String> = error::ErrorCode::ALL
        .iter()
        .map(|code| format!("\"{code}\""))
        .collect();
    let _ = writeln!(
        out,
        "export const ERROR_CODES: readonly ErrorCode[] = [{}];",
        codes.join(", ")
    );
    out
}

/// Ids, errors, parts, messages and questions.
fn words(config: &Config, out: &mut String) {
    declare!(
        config,
        out,
        ids::SessionId,
        ids::TurnId,
        ids::MessageId,
        ids::ToolCallId,
        ids::RequestId,
        ids::QueueId,
        cursor::Cursor,
        error::ErrorCode,
        error::ErrorBody,
        part::BlobRef,
        part::PlanStatus,
        part::PlanEntry,
        part::Part,
        message::Role,
        message::Sender,
        message::StopReason,
        message::Usage,
        message::Message,
        input::PermissionChoice,
        input::SelectOption,
        input::InputKind,
        input::InputRequest,
        input::InputAnswer,
        input::ApprovalScope,
        input::Approval,
    );
}

/// What is said of sessions, their workspaces and sandboxes.
fn sessions(config: &Config, out: &mut String) {
    declare!(
        config,
        out,
        session::SessionStatus,
        session::Phase,
        session::Tier,
        session::ModelInfo,
        session::ModeInfo,
        session::CommandInfo,
        session::Capabilities,
        limits::SessionLimits,
        session::QueueState,
        session::QueueEntry,
        session::SessionInfo,
        session::RunningTool,
        session::SessionState,
        session::MessageAnchor,
        workspace::FileKind,
        workspace::FileEntry,
        workspace::FileListing,
        workspace::FileContent,
        workspace::FileWritten,
        workspace::GitEntry,
        workspace::GitStatus,
        workspace::GitDiff,
        workspace::TerminalInfo,
        workspace::TerminalExit,
        workspace::FindingKind,
        workspace::Finding,
        workspace::SeenFinding,
        workspace::NetworkPlace,
        workspace::NetworkSummary,
        sandbox::TierChoice,
        sandbox::ProfileChoice,
        sandbox::SandboxChoices,
        trust::CodeFile,
        trust::CodeChangeKind,
        trust::CodeChange,
        trust::WorkspaceCode,
        trust::TrustedCode,
    );
}

/// Events, commands and controls.
fn talk(config: &Config, out: &mut String) {
    declare!(
        config,
        out,
        event::TurnOutcome,
        event::NotifyLevel,
        event::CompactReason,
        event::NetworkDecision,
        event::EventBody,
        event::Event,
        command::CommandBody,
        command::Command,
        command::Outcome,
        command::Response,
        command::HarnessInfo,
        command::Installing,
        command::WorkspaceInfo,
        relay::Hello,
        relay::ClientFrame,
        relay::Verdict,
        relay::ToClient,
    );
}

fn export<T: TS + 'static>(config: &Config, out: &mut String) {
    if let Some(docs) = T::docs() {
        out.push_str(docs.trim_end());
        out.push('\n');
    }
    let _ = writeln!(out, "export {}\n", T::decl(config));
}
