//! Strategies for every type of the protocol. Where a type has variants there is one strategy a variant, so that a
//! test can hold that none was forgotten.

use lodge_proto::input::{
    ApprovalScope, InputAnswer, InputKind, InputRequest, PermissionChoice, SelectOption,
};
use lodge_proto::message::{Sender, StopReason, Usage};
use lodge_proto::part::{BlobRef, PlanEntry, PlanStatus};
use lodge_proto::session::{Phase, SessionStatus};
use lodge_proto::{Cursor, ErrorBody, ErrorCode, Message, Part, Role};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use serde_json::{Map, Value};
use uuid::Uuid;

/// A strategy for a struct or a variant from strategies for its fields (at most twelve).
macro_rules! made {
    (@of $field:ident) => { $field };
    (@of $field:ident $strategy:expr) => { $strategy };
    ($($ty:ident)::+ {}) => { Just($($ty)::+ {}).boxed() };
    ($($ty:ident)::+ { $($field:ident $(: $strategy:expr)?),+ $(,)? }) => {
        ($(made!(@of $field $($strategy)?),)+).prop_map(|($($field,)+)| $($ty)::+ { $($field),+ }).boxed()
    };
}
pub(crate) use made;

/// Text with everything that JSON has to escape, and what line splitters fall over.
pub(crate) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[a-z ]{0,12}",
        2 => any::<String>().prop_map(|text| text.chars().take(24).collect()),
        1 => select(vec!["", "\0", "\"\\/", "\n\r\t", "\u{2028}\u{2029}", "é𝄞\u{202e}", "{\"event\":\"x\"}"])
            .prop_map(str::to_owned),
    ]
    .boxed()
}

/// Any identifier.
pub(crate) fn id<T: From<Uuid> + std::fmt::Debug + 'static>() -> BoxedStrategy<T> {
    any::<u128>()
        .prop_map(|bits| T::from(Uuid::from_u128(bits)))
        .boxed()
}

/// Any JSON value. Numbers are those that JSON parsers agree on: integers of 64 bits and short decimals.
pub(crate) fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 64.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

/// The fields of an object that is not the tag.
pub(crate) fn fields() -> BoxedStrategy<Map<String, Value>> {
    btree_map("[a-z_]{1,8}", value(), 0..4)
        .prop_map(|fields| {
            fields
                .into_iter()
                .map(|(name, value)| (format!("x_{name}"), value))
                .collect()
        })
        .boxed()
}

pub(crate) fn small<T: std::fmt::Debug + 'static>(element: BoxedStrategy<T>) -> BoxedStrategy<Vec<T>> {
    vec(element, 0..3).boxed()
}

pub(crate) fn error_code() -> BoxedStrategy<ErrorCode> {
    select(ErrorCode::ALL).boxed()
}

pub(crate) fn error() -> BoxedStrategy<ErrorBody> {
    // `details: null` is the same as no details.
    let details = of(value().prop_filter("null", |value| !value.is_null()));
    made!(ErrorBody {
        code: error_code(),
        message: text(),
        details
    })
}

pub(crate) fn cursor() -> BoxedStrategy<Cursor> {
    made!(Cursor {
        epoch: any::<u32>(),
        seq: any::<u64>()
    })
}

pub(crate) fn blob() -> BoxedStrategy<BlobRef> {
    made!(BlobRef {
        hash: "[0-9a-f]{64}",
        media_type: text(),
        size: any::<u64>(),
        name: of(text())
    })
}

pub(crate) fn plan_entry() -> BoxedStrategy<PlanEntry> {
    let status = select(vec![
        PlanStatus::Pending,
        PlanStatus::InProgress,
        PlanStatus::Completed,
    ]);
    made!(PlanEntry {
        content: text(),
        status,
        priority: of(text())
    })
}

/// One strategy a type of part; `tool_result` with `output` inside.
pub(crate) fn parts_with(output: &BoxedStrategy<Part>) -> Vec<BoxedStrategy<Part>> {
    let output = small(output.clone());
    vec![
        made!(Part::Text { text: text() }),
        made!(Part::Thinking {
            text: text(),
            redacted: any::<bool>()
        }),
        made!(Part::ToolCall {
            tool_call_id: id(),
            name: text(),
            input: value()
        }),
        made!(Part::ToolResult {
            tool_call_id: id(),
            name: text(),
            output,
            is_error: any::<bool>()
        }),
        made!(Part::Image {
            blob: blob(),
            alt: of(text())
        }),
        made!(Part::Audio { blob: blob() }),
        made!(Part::Video { blob: blob() }),
        made!(Part::FileRef {
            path: text(),
            lines: of(any::<(u32, u32)>())
        }),
        made!(Part::Attachment { blob: blob() }),
        made!(Part::Diff {
            path: text(),
            patch: text()
        }),
        made!(Part::Plan {
            entries: small(plan_entry())
        }),
        made!(Part::Error {
            code: error_code(),
            message: text()
        }),
        extension(),
    ]
}

/// A part of an extension.
pub(crate) fn extension() -> BoxedStrategy<Part> {
    ("x-[a-z]{0,8}", fields())
        .prop_map(|(name, fields)| Part::extension(&name, fields).expect("the prefix"))
        .boxed()
}

/// Parts, results of tools nested in results of tools too.
pub(crate) fn part() -> BoxedStrategy<Part> {
    Union::new(parts_with(&extension()))
        .prop_recursive(2, 6, 2, |inner| Union::new(parts_with(&inner.boxed())))
        .boxed()
}

pub(crate) fn usage() -> BoxedStrategy<Usage> {
    let n = any::<u64>;
    made!(Usage {
        input: n(),
        output: n(),
        cache_read: n(),
        cache_write: n(),
        cost_nanodollars: n()
    })
}

pub(crate) fn message() -> BoxedStrategy<Message> {
    let sender = made!(Sender {
        account: text(),
        name: text()
    });
    let role = select(vec![Role::User, Role::Assistant, Role::System, Role::Tool]);
    let stop = select(vec![
        StopReason::EndTurn,
        StopReason::ToolUse,
        StopReason::MaxTokens,
        StopReason::Refusal,
        StopReason::Aborted,
        StopReason::Error,
        StopReason::Interrupted,
    ]);
    let head = (id(), id(), id(), any::<u64>(), role, of(sender), small(part()));
    let tail = (
        of(text()),
        of(text()),
        text(),
        of(stop),
        of(usage()),
        any::<u64>(),
        any::<u32>(),
    );
    (head, tail)
        .prop_map(|((id, session_id, turn_id, index, role, sender, parts), tail)| {
            let (model, provider, harness, stop_reason, usage, created_at, version) = tail;
            Message {
                id,
                session_id,
                turn_id,
                index,
                role,
                sender,
                parts,
                model,
                provider,
                harness,
                stop_reason,
                usage,
                created_at,
                version,
            }
        })
        .boxed()
}

pub(crate) fn choice() -> BoxedStrategy<PermissionChoice> {
    use PermissionChoice::{Always, Deny, DenyAndStop, Once, Session};
    select(vec![Once, Session, Always, Deny, DenyAndStop]).boxed()
}

pub(crate) fn request() -> BoxedStrategy<InputRequest> {
    let option = made!(SelectOption {
        value: text(),
        label: text(),
        description: of(text())
    });
    let kind = Union::new(vec![
        made!(InputKind::Permission {
            tool: text(),
            arguments: value(),
            tool_call_id: of(id()),
            choices: small(choice())
        }),
        made!(InputKind::Select {
            options: small(option),
            multiple: any::<bool>()
        }),
        made!(InputKind::Confirm {}),
        made!(InputKind::Input {
            placeholder: of(text())
        }),
        made!(InputKind::Editor { text: text() }),
    ]);
    made!(InputRequest {
        id: id(),
        title: text(),
        message: of(text()),
        expires_at: of(any::<u64>()),
        kind
    })
}

pub(crate) fn answer() -> BoxedStrategy<InputAnswer> {
    Union::new(vec![
        made!(InputAnswer::Permission { choice: choice() }),
        made!(InputAnswer::Selected {
            values: small(text())
        }),
        made!(InputAnswer::Confirmed { yes: any::<bool>() }),
        made!(InputAnswer::Text { text: text() }),
        made!(InputAnswer::Cancelled {}),
    ])
    .boxed()
}

pub(crate) fn approval_scope() -> BoxedStrategy<ApprovalScope> {
    select(vec![ApprovalScope::Session, ApprovalScope::Always]).boxed()
}

pub(crate) fn status() -> BoxedStrategy<SessionStatus> {
    use SessionStatus::{Aborting, Failed, Idle, Starting, Stopped, Stopping, Working};
    select(vec![Starting, Idle, Working, Aborting, Stopping, Stopped, Failed]).boxed()
}

pub(crate) fn phase() -> BoxedStrategy<Phase> {
    use Phase::{Compacting, Generating, Initializing, Retrying, Thinking, ToolRunning, WaitingForInput};
    select(vec![
        Initializing,
        Generating,
        Thinking,
        ToolRunning,
        Compacting,
        Retrying,
        WaitingForInput,
    ])
    .boxed()
}
