//! Copies of a conversation: of all of it, of what was said before a prompt, while the first runs and after it was closed.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use super::super::turn::spoken;
use anyhow::{Context as _, bail, ensure};
use lodge_proto::ids::MessageId;
use lodge_proto::message::Role;
use lodge_proto::part::plain_text;
use lodge_proto::{CommandBody, ErrorBody, ErrorCode, EventBody};

const FIRST: &str = "keepsake-3140";
const SECOND: &str = "keepsake-3141";
const IN_COPY: &str = "keepsake-3142";

pub(super) async fn fork(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    talk.complete(&format!("say {FIRST}")).await?;
    talk.complete(&format!("say {SECOND}")).await?;
    let (whole, at_message) = (talk.capabilities().fork, talk.capabilities().fork_at_message);
    let done = match talk.fork(bench.quiet, None).await? {
        Err(refused) if !whole => refused_as_told(refused),
        Err(refused) => bail!("the fork was refused: {}: {}", refused.code, refused.message),
        Ok(_) if !whole => bail!("the session cannot be forked, and was"),
        Ok(mut copy) => {
            recalls(&mut copy, FIRST, true).await?;
            recalls(&mut copy, SECOND, true).await?;
            copy.still_works(IN_COPY).await?;
            copy.close().await?;
            let done = from_before(bench, &mut talk, at_message).await?;
            recalls(&mut talk, IN_COPY, false).await?;
            recalls(&mut talk, SECOND, true).await?;
            Ok(done)
        }
    };
    bench.keep(talk);
    done
}

/// A copy that begins before the second prompt, made after its parent was closed.
async fn from_before(bench: &Bench<'_>, talk: &mut Talk, can: bool) -> anyhow::Result<Verdict> {
    let second = prompt(talk, SECOND).context("the second prompt is in the log")?;
    talk.call(CommandBody::SessionClose {}).await?;
    match talk.fork(bench.quiet, Some(second)).await? {
        Err(refused) if !can => {
            refused_as_told(refused)?;
            Ok(Verdict::Noted("only as a whole".to_owned()))
        }
        Err(refused) => bail!(
            "the fork from before a prompt was refused: {}: {}",
            refused.code,
            refused.message
        ),
        Ok(_) if !can => bail!("the session can be forked only as a whole, and was from before a prompt"),
        Ok(mut copy) => {
            recalls(&mut copy, SECOND, false).await?;
            recalls(&mut copy, FIRST, true).await?;
            copy.close().await?;
            Ok(Verdict::Ok)
        }
    }
}

fn refused_as_told(refused: ErrorBody) -> Done {
    ensure!(
        refused.code == ErrorCode::UnsupportedByHarness,
        "what it cannot do was refused with {}: {}",
        refused.code,
        refused.message
    );
    Ok(Verdict::Unsupported(refused.message))
}

/// The newest prompt that has this word.
fn prompt(talk: &Talk, word: &str) -> Option<MessageId> {
    talk.log().iter().rev().find_map(|event| match &event.body {
        EventBody::StreamMessageEnd { message } if message.role == Role::User => {
            plain_text(&message.parts).contains(word).then_some(message.id)
        }
        _ => None,
    })
}

async fn recalls(talk: &mut Talk, word: &str, before: bool) -> anyhow::Result<()> {
    let ended = talk.complete(&format!("recall {word}")).await?;
    let wanted = if before { "was said before" } else { "is new" };
    ensure!(
        ended.answer().contains(&format!("{word} {wanted}")),
        "to whether {word} {wanted} it answered {}",
        spoken(&ended.answer())
    );
    Ok(())
}
