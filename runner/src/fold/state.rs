//! The state that is common to every harness.

use super::record::{Created, DeliveryId, Launch, Limit, Queued, Timer};
use super::stream::OpenMessage;
use super::tools::{KnownTool, OpenTool};
use lodge_proto::ErrorBody;
use lodge_proto::event::TurnOutcome;
use lodge_proto::ids::{SessionId, TurnId};
use lodge_proto::input::{InputRequest, PermissionChoice};
use lodge_proto::message::{Message, Usage};
use lodge_proto::part::PlanEntry;
use lodge_proto::session::{Capabilities, CommandInfo, Phase, SessionStatus};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// Finished messages that a snapshot carries, so that a reload costs one frame.
pub(super) const TAIL_MESSAGES: usize = 64;
/// Bytes of JSON they may have together.
pub(super) const TAIL_BYTES: usize = 512 * 1024;
/// Lines of standard error kept for the message of a crash.
pub(super) const STDERR_LINES: usize = 12;

/// An input that the harness is to get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PendingInput {
    pub id: DeliveryId,
    pub bytes: Vec<u8>,
    /// What is put into it when it is delivered: no journal and no snapshot of a fold carries a blob by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobSlot>,
    /// Its first byte may have been written.
    pub begun: bool,
}

/// A place in an input where the bytes of a blob go, in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobSlot {
    /// Bytes of the input before it; slots are in this order.
    pub at: usize,
    pub hash: String,
}

/// A turn as history is to store it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    pub id: TurnId,
    pub started_at: u64,
    pub ended_at: u64,
    pub outcome: TurnOutcome,
    pub error: Option<ErrorBody>,
    pub usage: Usage,
    pub messages: Vec<Message>,
    pub last_seq: u64,
}

/// A turn under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) id: TurnId,
    pub(super) started_at: u64,
    pub(super) usage: Usage,
    pub(super) messages: Vec<Message>,
    pub(super) aborting: bool,
    /// Attempts of a model call that the harness announced since one succeeded.
    #[serde(default)]
    pub(super) retries: u32,
    /// Why the turn is stopped although nobody asked for it: what it ends with.
    #[serde(default)]
    pub(super) given_up: Option<ErrorBody>,
    /// The prompt's delivery, while it is not known to be whole.
    pub(super) prompt: Option<(DeliveryId, Queued)>,
    /// How it ended, said by the adapter; `settle` acts on it after the record.
    pub(super) ending: Option<(TurnOutcome, Option<ErrorBody>)>,
}

/// A question that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenRequest {
    pub(super) request: InputRequest,
    /// What the adapter needs to answer.
    pub(super) native: Value,
    /// What an approval of it holds for, where it can be remembered.
    #[serde(default)]
    pub(super) rule: Option<super::approvals::Rule>,
    /// Choices that the harness does not know: it is told `once`.
    #[serde(default)]
    pub(super) lent: Vec<PermissionChoice>,
}

/// Who is to get the answer of a command that the harness has yet to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReplyTo {
    pub account: String,
    pub client_id: String,
}

/// What is to be done for this session. Derived from the state, never a queue of its own.
#[derive(Debug)]
pub struct Wants<'a> {
    /// Inputs for the harness, in order.
    pub inputs: &'a [PendingInput],
    /// Timers that run, with the time at which they fire (UTC milliseconds).
    pub timers: &'a BTreeMap<Timer, u64>,
    /// A turn that history has not acknowledged.
    pub persist: Option<&'a TurnRecord>,
    /// The harness did not settle in time and is to be killed.
    pub kill: bool,
    /// Approvals for always that the runner's database does not have.
    pub approvals: &'a [super::approvals::Given],
    /// Answers for the gateway, about connections that wait.
    pub network: &'a [super::network::NetworkAnswer],
    /// Whether there are questions of the gateway, or answers to them.
    pub has_network: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Core {
    pub(super) session: SessionId,
    pub(super) created: Option<Created>,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    pub(super) record_seq: u64,
    pub(super) generation: u64,
    pub(super) seq: u64,
    pub(super) launch: Option<Launch>,
    pub(super) status: SessionStatus,
    /// A harness process is there.
    pub(super) running: bool,
    pub(super) phase: Option<Phase>,
    pub(super) title: String,
    pub(super) model: Option<String>,
    pub(super) thinking_level: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) capabilities: Capabilities,
    pub(super) commands: Vec<CommandInfo>,
    pub(super) plan: Vec<PlanEntry>,
    pub(super) shares_workspace_with: Vec<SessionId>,
    pub(super) turn: Option<Turn>,
    pub(super) persisting: Option<TurnRecord>,
    pub(super) last_error: Option<ErrorBody>,
    pub(super) queue: Vec<Queued>,
    /// After an abort the queue waits for the next prompt.
    pub(super) queue_held: bool,
    pub(super) requests: Vec<OpenRequest>,
    #[serde(default)]
    pub(super) approvals: super::approvals::Approvals,
    #[serde(default)]
    pub(super) network: super::network::Network,
    #[serde(default)]
    pub(super) points: super::forks::Points,
    #[serde(default)]
    pub(super) seen: super::seen::Seen,
    pub(super) open_messages: Vec<OpenMessage>,
    pub(super) tools: Vec<OpenTool>,
    /// Ids given to the harness's tool call ids in this turn.
    pub(super) tool_ids: BTreeMap<String, KnownTool>,
    pub(super) inputs: Vec<PendingInput>,
    /// As pairs: JSON has no keys but strings.
    #[serde(with = "pairs")]
    pub(super) timers: BTreeMap<Timer, u64>,
    pub(super) kill: bool,
    pub(super) stopping: Option<String>,
    pub(super) deferred: BTreeMap<String, ReplyTo>,
    pub(super) message_count: u64,
    pub(super) user_messages: u32,
    pub(super) tail: VecDeque<Message>,
    pub(super) tail_bytes: usize,
    pub(super) usage: Usage,
    pub(super) context_tokens: Option<u64>,
    pub(super) stderr: VecDeque<String>,
    /// The bound that the sandbox ends for.
    #[serde(default)]
    pub(super) limit: Option<Limit>,
    /// Records are those of a recorded transcript: inputs that nobody here sent are read for their meaning.
    pub(super) transcript: bool,
}

impl Core {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            created: None,
            created_at: 0,
            updated_at: 0,
            record_seq: 0,
            generation: 0,
            seq: 0,
            launch: None,
            status: SessionStatus::Stopped,
            running: false,
            phase: None,
            title: String::new(),
            model: None,
            thinking_level: None,
            mode: None,
            capabilities: Capabilities::default(),
            commands: Vec::new(),
            plan: Vec::new(),
            shares_workspace_with: Vec::new(),
            turn: None,
            persisting: None,
            last_error: None,
            queue: Vec::new(),
            queue_held: false,
            requests: Vec::new(),
            approvals: super::approvals::Approvals::default(),
            network: super::network::Network::default(),
            points: super::forks::Points::default(),
            seen: super::seen::Seen::default(),
            open_messages: Vec::new(),
            tools: Vec::new(),
            tool_ids: BTreeMap::new(),
            inputs: Vec::new(),
            timers: BTreeMap::new(),
            kill: false,
            stopping: None,
            deferred: BTreeMap::new(),
            message_count: 0,
            user_messages: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            usage: Usage::default(),
            context_tokens: None,
            stderr: VecDeque::new(),
            limit: None,
            transcript: false,
        }
    }

    pub(super) fn harness(&self) -> &str {
        self.created
            .as_ref()
            .map_or("", |created| created.harness.as_str())
    }

    /// Keeps a finished message for the turn's record and for snapshots.
    pub(super) fn keep(&mut self, message: Message) {
        self.message_count = self.message_count.max(message.index + 1);
        self.push_tail(message.clone());
        if let Some(turn) = &mut self.turn {
            turn.messages.push(message);
        }
    }

    pub(super) fn push_tail(&mut self, message: Message) {
        self.tail_bytes += weight(&message);
        self.tail.push_back(message);
        while self.tail.len() > TAIL_MESSAGES || (self.tail_bytes > TAIL_BYTES && self.tail.len() > 1) {
            if let Some(oldest) = self.tail.pop_front() {
                self.tail_bytes = self.tail_bytes.saturating_sub(weight(&oldest));
            }
        }
    }
}

fn weight(message: &Message) -> usize {
    serde_json::to_vec(message).map_or(0, |bytes| bytes.len())
}

/// A map as a list of pairs.
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}
