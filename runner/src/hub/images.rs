//! Images that prompts name: they are there, they are the sender's own, and they stay as long as the session.

use super::Hub;
use lodge_proto::blob::{MAX_NAME, MAX_PROMPT_BLOBS};
use lodge_proto::command::CommandBody;
use lodge_proto::part::{BlobRef, Part};
use lodge_proto::relay::Actor;
use lodge_proto::{ErrorBody, ErrorCode, SessionId};

type Result<T> = std::result::Result<T, ErrorBody>;

/// Longest description of an image, in bytes.
const MAX_ALT: usize = 1000;

fn invalid(message: String) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

/// What of an image part the client may say itself.
pub(super) fn check(blob: &BlobRef, alt: Option<&str>) -> Result<()> {
    let name = blob.name.as_deref().unwrap_or_default();
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(invalid(format!(
            "the name of an image has at most {MAX_NAME} characters, and no control characters"
        )));
    }
    if alt.is_some_and(|alt| alt.len() > MAX_ALT) {
        return Err(invalid(format!(
            "the description of an image has at most {MAX_ALT} bytes"
        )));
    }
    Ok(())
}

impl Hub {
    /// Notes in the database that the session needs the images of a command, before its journal names them, and puts
    /// what is known of them into the command: the client is not believed what they are.
    pub(super) async fn refer(
        &self,
        actor: &Actor,
        session: Option<SessionId>,
        body: &mut CommandBody,
    ) -> Result<()> {
        let (CommandBody::Prompt { parts }
        | CommandBody::Steer { parts }
        | CommandBody::FollowUp { parts }
        | CommandBody::QueueEdit { parts, .. }) = body
        else {
            return Ok(());
        };
        let mut named: Vec<&mut BlobRef> = parts
            .iter_mut()
            .filter_map(|part| match part {
                Part::Image { blob, .. } => Some(blob),
                _ => None,
            })
            .collect();
        // Of a session that there is not, the hub says so later.
        let Some(session) = session.filter(|id| !named.is_empty() && self.sessions.contains_key(id)) else {
            return Ok(());
        };
        let hashes = named.iter().map(|blob| blob.hash.clone()).collect();
        let known = self.shared.blobs.refer(&actor.account, session, hashes).await?;
        let total: u64 = known.iter().map(|blob| blob.size).sum();
        if total > MAX_PROMPT_BLOBS {
            return Err(invalid(format!(
                "the images of a prompt have at most {MAX_PROMPT_BLOBS} bytes together, these have {total}"
            )));
        }
        for (blob, known) in named.iter_mut().zip(known) {
            let name = blob.name.take();
            **blob = BlobRef { name, ..known };
        }
        Ok(())
    }
}
