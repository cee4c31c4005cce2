//! Approvals that are remembered: equal questions are answered by them, and the log says so.
//!
//! One for the session is part of this state, by the answer's record. One for always is kept in the runner's database
//! for all sessions of its user; until the database has it, it is something the state asks for. What the database has
//! comes as a note, so that a question is answered by the record that asks it: nobody is asked in between. What a
//! harness remembers by itself it is told as well, but most forget it with their process, or keep it in the session's
//! home.

use super::cx::Cx;
use super::state::OpenRequest;
use super::turn;
use crate::harness::AnyAdapter;
use lodge_proto::ids::RequestId;
use lodge_proto::input::{Approval, ApprovalScope, InputAnswer, InputKind, PermissionChoice};
use lodge_proto::{ErrorBody, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest subject, in bytes of JSON. What is longer can only be approved once.
const MAX_SUBJECT: usize = 2048;
/// Approvals that one session remembers; beyond, the oldest is forgotten.
const MAX_APPROVALS: usize = 200;

/// Exactly what an approval holds for. There are no patterns: what is allowed next time is what was read this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub tool: String,
    pub subject: Value,
}

impl Rule {
    /// A call with exactly these arguments, but for those that only describe it. `None`: they say too little, or too
    /// much, to recognise the call by.
    pub fn exact(tool: &str, arguments: &Value, descriptive: &[&str]) -> Option<Self> {
        let mut subject = arguments.as_object()?.clone();
        subject.retain(|name, value| !value.is_null() && !descriptive.contains(&name.as_str()));
        if subject.is_empty() {
            return None;
        }
        Self::of(tool, Value::Object(subject))
    }

    /// Whatever this tool does to these files.
    pub fn files<'a>(tool: &str, paths: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut paths: Vec<&str> = paths.into_iter().collect();
        paths.sort_unstable();
        paths.dedup();
        match paths.as_slice() {
            [] => None,
            paths if paths.iter().any(|path| path.is_empty()) => None,
            [path] => Self::of(tool, json!({ "path": path })),
            paths => Self::of(tool, json!({ "paths": paths })),
        }
    }

    fn of(tool: &str, subject: Value) -> Option<Self> {
        let fits = !tool.is_empty() && subject.to_string().len() + tool.len() <= MAX_SUBJECT;
        fits.then(|| Self {
            tool: tool.to_owned(),
            subject,
        })
    }
}

/// An approval as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The request that was answered so.
    pub id: RequestId,
    pub rule: Rule,
    pub at: u64,
}

/// What this session remembers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Approvals {
    /// For this session.
    session: Vec<Given>,
    /// For always, as far as the runner's database has not confirmed them.
    unkept: Vec<Given>,
    /// For always, as the runner's database had them last.
    #[serde(default)]
    always: Vec<Given>,
}

impl Approvals {
    /// What the runner's database is to keep.
    pub(super) fn unkept(&self) -> &[Given] {
        &self.unkept
    }

    fn find(&self, rule: &Rule) -> Option<ApprovalScope> {
        let has = |list: &[Given]| list.iter().any(|given| given.rule == *rule);
        if has(&self.session) {
            return Some(ApprovalScope::Session);
        }
        (has(&self.always) || has(&self.unkept)).then_some(ApprovalScope::Always)
    }

    fn remember(&mut self, scope: ApprovalScope, given: Given) {
        let list = match scope {
            ApprovalScope::Session => &mut self.session,
            ApprovalScope::Always => &mut self.unkept,
        };
        if list.iter().any(|known| known.rule == given.rule) {
            return;
        }
        if list.len() == MAX_APPROVALS {
            list.remove(0);
        }
        list.push(given);
    }
}

impl Cx<'_> {
    /// Puts a permission request to the user. What `rule` describes can be remembered: scopes that the harness does
    /// not offer are offered by Lodge.
    pub fn ask_permission(
        &mut self,
        native: Value,
        title: impl Into<String>,
        message: Option<String>,
        mut kind: InputKind,
        rule: Option<Rule>,
    ) -> RequestId {
        let mut lent = Vec::new();
        // Without `once` there is no answer to give in the user's place.
        let rule = rule.filter(|_| {
            let InputKind::Permission { choices, .. } = &mut kind else {
                return false;
            };
            let once = choices
                .iter()
                .position(|choice| *choice == PermissionChoice::Once);
            lent = once.map_or_else(Vec::new, |once| lend(choices, once));
            once.is_some()
        });
        let id = self.ask(native, title, message, kind);
        if let Some(open) = self.core.requests.iter_mut().find(|open| open.request.id == id) {
            open.rule = rule;
            open.lent = lent;
        }
        id
    }
}

/// Adds the scopes that are missing behind `once`; returns them.
fn lend(choices: &mut Vec<PermissionChoice>, once: usize) -> Vec<PermissionChoice> {
    let mut lent = Vec::new();
    let mut at = once;
    for choice in [PermissionChoice::Session, PermissionChoice::Always] {
        if let Some(known) = choices.iter().position(|known| *known == choice) {
            at = known;
            continue;
        }
        at += 1;
        choices.insert(at, choice);
        lent.push(choice);
    }
    lent
}

/// The user answered: remembers what is to be remembered, and tells the harness in its own words.
pub(super) fn answer(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, open: &OpenRequest, answer: &InputAnswer) {
    let mut told = answer.clone();
    if let InputAnswer::Permission { choice } = answer {
        if open.lent.contains(choice) {
            told = once();
        }
        if let (Some(rule), Some(scope)) = (&open.rule, scope(*choice)) {
            let given = Given {
                id: open.request.id,
                rule: rule.clone(),
                at: cx.now(),
            };
            cx.core.approvals.remember(scope, given);
        }
    }
    adapter.answer(cx, &open.native, &open.request, &told);
    cx.resolved(open.request.id, answer.clone(), None);
    if *answer
        == (InputAnswer::Permission {
            choice: PermissionChoice::DenyAndStop,
        })
    {
        turn::abort(cx, adapter);
    }
}

const fn once() -> InputAnswer {
    InputAnswer::Permission {
        choice: PermissionChoice::Once,
    }
}

/// A refusal is never remembered: what is wrong now may be right in a moment, and nobody would be asked.
const fn scope(choice: PermissionChoice) -> Option<ApprovalScope> {
    match choice {
        PermissionChoice::Session => Some(ApprovalScope::Session),
        PermissionChoice::Always => Some(ApprovalScope::Always),
        PermissionChoice::Once | PermissionChoice::Deny | PermissionChoice::DenyAndStop => None,
    }
}

/// After each record: answers the open questions that this session remembers the answer of.
pub(super) fn settle(cx: &mut Cx<'_>, adapter: &mut AnyAdapter) {
    loop {
        let approvals = &cx.core.approvals;
        let known = cx.core.requests.iter().find_map(|open| {
            let scope = approvals.find(open.rule.as_ref()?)?;
            Some((open.request.id, scope))
        });
        let Some((id, scope)) = known.filter(|_| !cx.is_aborting()) else {
            return;
        };
        answer_by(cx, adapter, id, scope);
    }
}

/// What the runner's database has for this session's user, harness and workspace.
pub(super) fn known(cx: &mut Cx<'_>, given: &[Given]) {
    cx.core.approvals.always = given.to_vec();
}

fn answer_by(cx: &mut Cx<'_>, adapter: &mut AnyAdapter, id: RequestId, scope: ApprovalScope) {
    let Some(at) = cx.core.requests.iter().position(|open| open.request.id == id) else {
        return;
    };
    let open = cx.core.requests.remove(at);
    adapter.answer(cx, &open.native, &open.request, &once());
    cx.resolved(id, once(), Some(scope));
}

/// The runner's database has it.
pub(super) fn kept(cx: &mut Cx<'_>, id: RequestId) {
    cx.core.approvals.unkept.retain(|given| given.id != id);
}

/// One approval of this session is forgotten, or all.
pub(super) fn forget(cx: &mut Cx<'_>, id: Option<RequestId>) -> Result<(), ErrorBody> {
    let session = &mut cx.core.approvals.session;
    let before = session.len();
    session.retain(|given| id.is_some_and(|id| id != given.id));
    match id {
        Some(id) if session.len() == before => Err(ErrorBody::new(
            ErrorCode::NotFound,
            format!("this session remembers no approval {id}"),
        )),
        _ => Ok(()),
    }
}

impl super::SessionFold {
    /// Whether this session has any approval for always.
    pub fn has_approvals_for_always(&self) -> bool {
        !self.core.approvals.always.is_empty()
    }

    /// The approvals of this session, newest first.
    pub fn approvals(&self) -> Vec<Approval> {
        let info = self.core.info();
        let given = self.core.approvals.session.iter().rev();
        given
            .map(|given| Approval {
                id: given.id,
                scope: ApprovalScope::Session,
                session_id: Some(info.id),
                harness: info.harness.clone(),
                workspace: info.workspace.clone(),
                tool: given.rule.tool.clone(),
                subject: given.rule.subject.clone(),
                created_at: given.at,
            })
            .collect()
    }
}
