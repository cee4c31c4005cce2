//! What the gateway says of the session's guest becomes records; what the user answers goes back to it.

use super::actor::{Actor, Internal};
use super::journal::Own;
use crate::fold::{Access, Note};
use crate::lease::{Listener, Notice};
use lodge_proto::control::EgressAccess;
use lodge_proto::event::NetworkDecision;

impl Actor {
    /// Whoever the gateway's notices of this session go to.
    pub(super) fn listener(&self) -> Listener {
        let internal = self.internal.clone();
        Listener::new(move |notice| {
            // Without the session's task there is nobody to tell.
            let _ = internal.send(Internal::Network(notice));
        })
    }

    pub(super) fn network(&mut self, notice: Notice) {
        match notice {
            Notice::Access(access) => {
                if let Some(access) = access_of(access) {
                    self.append(Own::note(&Note::NetworkAccess(Box::new(access))));
                }
            }
            Notice::Question(question) => {
                let Ok(port) = u16::try_from(question.port) else {
                    return;
                };
                let note = Note::NetworkAsked {
                    question: question.id.clone(),
                    host: question.host,
                    port,
                    seconds: question.seconds,
                };
                self.append(Own::note_once(&note, &format!("network {}", question.id)));
            }
            Notice::Closed(question) => self.network_closed(question),
            Notice::Lost => self.reset_network(),
        }
    }

    pub(super) fn network_closed(&mut self, question: String) {
        self.append(Own::note(&Note::NetworkClosed { question }));
    }

    /// The gateway knows no question any more: it was restarted, or this runner was.
    pub(super) fn reset_network(&mut self) {
        self.told_gateway.clear();
        if self.fold.wants().has_network {
            self.append(Own::note(&Note::NetworkReset {}));
        }
    }

    /// Tells the gateway what was answered and is not yet confirmed.
    pub(super) fn answer_network(&mut self) {
        if !self.fold.wants().has_network {
            return self.told_gateway.clear();
        }
        let wanted: Vec<_> = self
            .fold
            .wants()
            .network
            .iter()
            .filter(|answer| !self.told_gateway.contains(&answer.question))
            .cloned()
            .collect();
        for answer in wanted {
            self.told_gateway.insert(answer.question.clone());
            let telling = self
                .lease
                .as_ref()
                .map(|lease| lease.answer(&answer.question, answer.answer.as_str()));
            let internal = self.internal.clone();
            tokio::spawn(async move {
                // Without a lease there is nobody who waits.
                if let Some(telling) = telling {
                    telling.await;
                }
                let _ = internal.send(Internal::NetworkTold(answer.question));
            });
        }
    }
}

fn access_of(access: EgressAccess) -> Option<Access> {
    let decision = match access.decision.as_str() {
        "allowed" => NetworkDecision::Allowed,
        "denied" => NetworkDecision::Denied,
        "asked" => NetworkDecision::Asked,
        _ => return None,
    };
    Some(Access {
        host: access.host,
        port: u16::try_from(access.port).ok()?,
        decision,
        rule: access.rule,
        reason: access.reason,
        connections: access.connections,
        sent: access.sent,
        received: access.received,
    })
}
