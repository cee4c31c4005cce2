//! Says whether the harness runs what its workspace brings.

use super::cx::Cx;
use lodge_proto::event::NotifyLevel;
use lodge_proto::trust::CodeChange;

/// Paths that are named.
const NAMED: usize = 5;

pub(super) fn decided(
    cx: &mut Cx<'_>,
    trusted: bool,
    files: u32,
    changed: &[CodeChange],
    reason: Option<&str>,
) {
    let harness = cx.core.harness().to_owned();
    if trusted {
        let message =
            format!("{harness} runs what this workspace brings for it: {files} file(s) that you trusted");
        return cx.notify(NotifyLevel::Info, message);
    }
    let why = match reason {
        Some(reason) => reason.to_owned(),
        None => format!("since you trusted it, it has changed ({})", named(changed)),
    };
    let message = format!(
        "what this workspace brings for {harness} is off: {why}. Look at it and trust it anew under `What may this agent \
         do?`, or with `lodge workspace show`; it holds from the next start of the harness"
    );
    cx.notify(NotifyLevel::Warning, message);
}

fn named(changed: &[CodeChange]) -> String {
    let mut names: Vec<&str> = changed
        .iter()
        .take(NAMED)
        .map(|change| change.path.as_str())
        .collect();
    let more = format!("{} more", changed.len().saturating_sub(NAMED));
    if changed.len() > NAMED {
        names.push(&more);
    }
    names.join(", ")
}
