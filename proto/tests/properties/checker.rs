//! The invariants' checker: a legal log passes, and each single violation is found.

use lodge_proto::event::TurnOutcome;
use lodge_proto::invariants::Checker;
use lodge_proto::message::Usage;
use lodge_proto::session::{Phase, SessionStatus};
use lodge_proto::{Event, EventBody, Message, MessageId, Part, Role, SessionId, ToolCallId, TurnId};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

/// What happens in one turn.
#[derive(Debug, Clone)]
enum Step {
    Say {
        thinking: Vec<String>,
        text: Vec<String>,
    },
    Discard {
        text: Vec<String>,
    },
    Tool {
        progress: usize,
    },
    State,
}

fn step() -> impl Strategy<Value = Step> {
    let deltas = || vec("[a-zé\n]{1,5}", 0..4);
    prop_oneof![
        4 => (deltas(), vec("[a-z]{1,5}", 1..4)).prop_map(|(thinking, text)| Step::Say { thinking, text }),
        1 => deltas().prop_map(|text| Step::Discard { text }),
        2 => (0usize..3).prop_map(|progress| Step::Tool { progress }),
        1 => Just(Step::State),
    ]
}

/// Writes a log as a session does.
struct Log {
    session: SessionId,
    events: Vec<Event>,
    turn: Option<TurnId>,
    ids: u128,
}

impl Log {
    fn of(turns: &[Vec<Step>]) -> Vec<Event> {
        let mut log = Self {
            session: SessionId(Uuid::from_u128(1)),
            events: Vec::new(),
            turn: None,
            ids: 100,
        };
        log.push(EventBody::Status {
            status: SessionStatus::Idle,
            text: None,
            persisting: false,
        });
        for steps in turns {
            log.turn(steps);
        }
        log.events
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn push(&mut self, body: EventBody) {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Event {
            session_id: self.session,
            seq,
            ts: seq,
            turn_id: self.turn,
            body,
        });
    }

    fn turn(&mut self, steps: &[Step]) {
        self.turn = Some(TurnId(self.id()));
        self.push(EventBody::TurnStarted {});
        self.message(Role::User, &[], &["prompt".to_owned()]);
        self.push(EventBody::AgentWorking {
            phase: Phase::Generating,
        });
        for step in steps {
            self.step(step);
        }
        let ended = EventBody::TurnEnded {
            outcome: TurnOutcome::Completed,
            usage: Usage::default(),
            error: None,
        };
        self.push(ended);
        self.turn = None;
        self.push(EventBody::AgentIdle { message_version: 1 });
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Say { thinking, text } => self.message(Role::Assistant, thinking, text),
            Step::Discard { text } => {
                let message_id = self.start(Role::Assistant, &[], text);
                self.push(EventBody::StreamMessageDiscarded { message_id });
            }
            Step::Tool { progress } => self.tool(*progress),
            Step::State => self.push(EventBody::AgentWorking {
                phase: Phase::Thinking,
            }),
        }
    }

    fn start(&mut self, role: Role, thinking: &[String], text: &[String]) -> MessageId {
        let message_id = MessageId(self.id());
        self.push(EventBody::StreamMessageStart { message_id, role });
        for delta in thinking {
            let delta = delta.clone();
            self.push(EventBody::StreamThinkingDelta {
                message_id,
                part_index: 0,
                delta,
            });
        }
        for delta in text {
            self.push(EventBody::StreamTextDelta {
                message_id,
                part_index: 1,
                delta: delta.clone(),
            });
        }
        message_id
    }

    fn message(&mut self, role: Role, thinking: &[String], text: &[String]) {
        let id = self.start(role, thinking, text);
        let thinking = Part::Thinking {
            text: thinking.concat(),
            redacted: false,
        };
        let message = Message {
            id,
            session_id: self.session,
            turn_id: self.turn.unwrap(),
            index: 0,
            role,
            sender: None,
            parts: vec![thinking, Part::text(text.concat())],
            model: None,
            provider: None,
            harness: "pi".to_owned(),
            stop_reason: None,
            usage: None,
            created_at: 1,
            version: 1,
        };
        self.push(EventBody::StreamMessageEnd { message });
    }

    fn tool(&mut self, progress: usize) {
        let tool_call_id = ToolCallId(self.id());
        let name = "bash".to_owned();
        self.push(EventBody::ToolStart {
            tool_call_id,
            name: name.clone(),
            input: json!({}),
        });
        for _ in 0..progress {
            let (name, delta) = (name.clone(), Some("x".to_owned()));
            self.push(EventBody::ToolProgress {
                tool_call_id,
                name,
                delta,
                output: None,
            });
        }
        let (output, is_error) = (Vec::new(), false);
        self.push(EventBody::ToolEnd {
            tool_call_id,
            name,
            output,
            is_error,
            duration_ms: None,
        });
    }
}

fn log() -> impl Strategy<Value = Vec<Event>> {
    vec(vec(step(), 0..6), 1..4).prop_map(|turns| Log::of(&turns))
}

fn check(events: &[Event]) -> Result<(), String> {
    let mut checker = Checker::new();
    for event in events {
        checker.event(event).map_err(|violation| violation.to_string())?;
    }
    checker.finish().map_err(|violation| violation.to_string())
}

fn renumber(mut events: Vec<Event>) -> Vec<Event> {
    for (seq, event) in (1..).zip(&mut events) {
        event.seq = seq;
    }
    events
}

/// Places of the events with this tag.
fn places(events: &[Event], tag: &str) -> Vec<usize> {
    (0..events.len())
        .filter(|at| events[*at].body.tag() == tag)
        .collect()
}

fn without(events: &[Event], at: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    events.remove(at);
    renumber(events)
}

fn twice(events: &[Event], at: usize) -> Vec<Event> {
    let mut events = events.to_vec();
    events.insert(at, events[at].clone());
    renumber(events)
}

fn with(events: &[Event], at: usize, change: impl FnOnce(&mut Event)) -> Vec<Event> {
    let mut events = events.to_vec();
    change(&mut events[at]);
    events
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn a_legal_log_passes(events in log()) {
        prop_assert_eq!(check(&events), Ok(()));
    }

    #[test]
    fn a_log_may_be_joined_between_turns(events in log()) {
        let at = places(&events, "agent.idle")[0];
        let mut checker = Checker::after(at as u64 + 1);
        for event in &events[at + 1..] {
            prop_assert_eq!(checker.event(event), Ok(()));
        }
        prop_assert_eq!(checker.finish(), Ok(()));
    }

    #[test]
    fn a_lost_a_doubled_and_a_swapped_event_are_found(events in log(), at in any::<prop::sample::Index>()) {
        let at = at.index(events.len() - 1);
        let mut lost = events.clone();
        lost.remove(at);
        prop_assert!(check(&lost).is_err());
        let mut doubled = events.clone();
        doubled.insert(at, events[at].clone());
        prop_assert!(check(&doubled).is_err());
        let mut swapped = events.clone();
        swapped.swap(at, at + 1);
        prop_assert!(check(&swapped).is_err());
    }

    /// Each of these with numbers in order: only the meaning is wrong.
    #[test]
    fn an_event_whose_partner_is_missing_is_found(events in log()) {
        for tag in [
            "turn.started", "turn.ended", "stream.message_start", "stream.message_end", "stream.text_delta",
            "stream.thinking_delta", "stream.message_discarded", "tool.start", "tool.end",
        ] {
            for at in places(&events, tag) {
                // The deltas of a discarded message are compared with nothing.
                if tag.ends_with("_delta") && is_discarded(&events, at) {
                    continue;
                }
                prop_assert!(check(&without(&events, at)).is_err(), "without the {tag} at {at}");
            }
        }
    }

    #[test]
    fn an_event_that_comes_again_is_found(events in log()) {
        for tag in [
            "turn.started", "turn.ended", "stream.message_start", "stream.message_end", "stream.text_delta",
            "stream.message_discarded", "tool.start", "tool.end",
        ] {
            for at in places(&events, tag) {
                if tag.ends_with("_delta") && is_discarded(&events, at) {
                    continue;
                }
                prop_assert!(check(&twice(&events, at)).is_err(), "the {tag} at {at} twice");
            }
        }
    }

    #[test]
    fn a_changed_text_is_found(events in log()) {
        for at in places(&events, "stream.message_end") {
            let changed = with(&events, at, |event| {
                if let EventBody::StreamMessageEnd { message } = &mut event.body {
                    message.parts.push(Part::text("more"));
                }
            });
            prop_assert!(check(&changed).is_err());
        }
    }

    #[test]
    fn events_outside_of_their_turn_are_found(events in log()) {
        for tag in ["stream.text_delta", "tool.start", "stream.message_start"] {
            for at in places(&events, tag) {
                let none = with(&events, at, |event| event.turn_id = None);
                prop_assert!(check(&none).is_err(), "{tag} of no turn");
                let other = with(&events, at, |event| event.turn_id = Some(TurnId(Uuid::from_u128(9))));
                prop_assert!(check(&other).is_err(), "{tag} of another turn");
            }
        }
    }

    /// After the end of the turn nothing streams, not even without a turn's name.
    #[test]
    fn a_late_message_is_found(events in log(), named in any::<bool>()) {
        let at = places(&events, "agent.idle")[0];
        let turn_id = if named { events[1].turn_id } else { None };
        for body in [
            EventBody::StreamMessageStart { message_id: MessageId(Uuid::from_u128(9)), role: Role::Assistant },
            EventBody::ToolStart { tool_call_id: ToolCallId(Uuid::from_u128(9)), name: "t".into(), input: json!({}) },
            EventBody::RetryEnd { success: true, attempt: 1 },
        ] {
            let mut late = events.clone();
            late.insert(at, Event { turn_id, body, ..events[at].clone() });
            let result = check_prefix(&renumber(late), at + 1);
            prop_assert!(result.is_err());
        }
    }

    #[test]
    fn heartbeats_have_no_number(events in log(), at in any::<prop::sample::Index>()) {
        let at = at.index(events.len());
        let heartbeat = |seq| Event {
            seq,
            body: EventBody::SessionHeartbeat { status: SessionStatus::Working },
            ..events[at].clone()
        };
        let mut beating = events.clone();
        beating.insert(at, heartbeat(0));
        prop_assert_eq!(check(&beating), Ok(()));
        let mut numbered = events.clone();
        numbered.insert(at, heartbeat(at as u64 + 1));
        prop_assert!(check(&renumber(numbered)).is_err());
    }
}

fn check_prefix(events: &[Event], length: usize) -> Result<(), String> {
    let mut checker = Checker::new();
    events[..length]
        .iter()
        .try_for_each(|event| checker.event(event).map_err(|violation| violation.to_string()))
}

/// Whether the delta at `at` belongs to a message that is discarded.
fn is_discarded(events: &[Event], at: usize) -> bool {
    let id = match &events[at].body {
        EventBody::StreamTextDelta { message_id, .. } | EventBody::StreamThinkingDelta { message_id, .. } => {
            *message_id
        }
        other => panic!("{} is no delta", other.tag()),
    };
    events.iter().any(
        |event| matches!(event.body, EventBody::StreamMessageDiscarded { message_id } if message_id == id),
    )
}

#[test]
fn an_id_that_is_used_again_is_found() {
    let events = Log::of(&[vec![Step::Tool { progress: 1 }], vec![Step::Tool { progress: 0 }]]);
    let starts = places(&events, "tool.start");
    let EventBody::ToolStart {
        tool_call_id: first, ..
    } = events[starts[0]].body
    else {
        unreachable!()
    };
    let again = with(&events, starts[1], |event| {
        event.body = EventBody::ToolStart {
            tool_call_id: first,
            name: "bash".to_owned(),
            input: json!({}),
        };
    });
    assert!(check(&again).unwrap_err().contains("starts twice"));

    let messages = places(&events, "stream.message_start");
    let EventBody::StreamMessageStart { message_id, .. } = events[messages[0]].body else {
        unreachable!()
    };
    let again = with(&events, messages[1], |event| {
        event.body = EventBody::StreamMessageStart {
            message_id,
            role: Role::User,
        };
    });
    assert!(check(&again).unwrap_err().contains("used twice"));

    let turns = places(&events, "turn.started");
    let mut again = events.clone();
    let (first, second) = (events[turns[0]].turn_id, events[turns[1]].turn_id);
    for event in again.iter_mut().filter(|event| event.turn_id == second) {
        event.turn_id = first;
    }
    assert!(check(&again).unwrap_err().contains("starts again"));
}

#[test]
fn an_empty_assistant_message_is_found() {
    let events = Log::of(&[vec![Step::Say {
        thinking: Vec::new(),
        text: Vec::new(),
    }]]);
    let end = *places(&events, "stream.message_end").last().unwrap();
    let empty = with(&events, end, |event| {
        if let EventBody::StreamMessageEnd { message } = &mut event.body {
            message.parts.clear();
        }
    });
    assert!(check(&empty).unwrap_err().contains("empty"));
}

#[test]
fn the_first_event_has_the_number_one() {
    let events = Log::of(&[Vec::new()]);
    let shifted: Vec<Event> = events
        .iter()
        .cloned()
        .map(|event| Event {
            seq: event.seq + 1,
            ..event
        })
        .collect();
    assert_eq!(check(&shifted).unwrap_err(), "event 2: expected seq 1");
}
