//! What the agent says: text, thinking, odd characters; and a prompt with an image.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Sent;
use super::super::turn::spoken;
use crate::client::image;
use anyhow::{Context as _, bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::message::Usage;
use lodge_proto::part::BlobRef;
use lodge_proto::{CommandBody, ErrorCode, EventBody, Part};

/// Beyond 16 bits, and a separator that some take for the end of a line.
const ODD: &str = "😀 𝔘𝔫𝔦\u{2028}line ünd";

/// Small enough that no harness need shrink it.
const IMAGE: &[u8] = include_bytes!("image.png");
const IMAGE_SIDES: &str = "16x12";

pub(super) async fn text(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let prompt = "say plain words";
    let ended = talk.complete(prompt).await?;
    ensure!(
        ended.answer().contains("plain words"),
        "the answer is {}",
        spoken(&ended.answer())
    );
    ensure!(
        ended.prompts() == [prompt],
        "the log has the prompt as {:?}",
        ended.prompts()
    );
    ensure!(
        ended.has("stream.text_delta") && ended.has("agent.working"),
        "the answer did not stream"
    );
    bench.observed.usage = Some(ended.usage != Usage::default());
    let told = talk.log().iter().any(|event| {
        matches!(event.body, EventBody::UsageUpdated { context_tokens: Some(tokens), .. } if tokens > 0)
    });
    bench.observed.context_size = Some(told);
    bench.keep(talk);
    Ok(Verdict::Ok)
}

pub(super) async fn thinking(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk.complete("think about this for a while").await?;
    ensure!(
        ended.answer().contains("The answer is 42."),
        "the answer is {}",
        spoken(&ended.answer())
    );
    let thought = ended.thinking().contains("about this for a while");
    bench.observed.thinking = Some(thought);
    bench.keep(talk);
    Ok(if thought {
        Verdict::Ok
    } else {
        Verdict::Noted("the harness does not tell what the model thinks".to_owned())
    })
}

pub(super) async fn unicode(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let prompt = format!("say {ODD}");
    let ended = talk.complete(&prompt).await?;
    ensure!(
        ended.answer().contains(ODD),
        "the answer is {}",
        spoken(&ended.answer())
    );
    ensure!(
        ended.prompts() == [prompt],
        "the log has the prompt as {:?}",
        ended.prompts()
    );
    talk.complete(&format!("use bash: printf '%s' '{ODD}' > odd.txt"))
        .await?;
    let written = talk.file("odd.txt").unwrap_or_default();
    ensure!(written == ODD, "a command wrote {}", spoken(&written));
    bench.keep(talk);
    Ok(Verdict::Ok)
}

pub(super) async fn image(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let can = talk.capabilities().images;
    let unknown = BlobRef {
        hash: "0".repeat(64),
        media_type: "image/png".to_owned(),
        size: 68,
        name: None,
    };
    match talk.try_call(shown(unknown.clone())).await? {
        Err(refused) if refused.code == ErrorCode::NotFound && refused.message.contains(&unknown.hash) => {}
        Err(refused) => bail!(
            "an image that nobody uploaded was refused as {}: {}",
            refused.code,
            refused.message
        ),
        Ok(_) => bail!("an image that nobody uploaded was taken"),
    }
    let blob = image::put(&bench.quiet.socket(), IMAGE.to_vec()).await?;
    let sent = talk.try_call(shown(blob.clone())).await?;
    bench.observed.images = Some(sent.is_ok());
    let sent: Sent = match sent {
        Ok(sent) if can => serde_json::from_value(sent)?,
        Ok(_) => bail!("the session has no images, and took one"),
        Err(refused) if refused.code == ErrorCode::UnsupportedByHarness && !can => {
            bench.keep(talk);
            return Ok(Verdict::Unsupported(refused.message));
        }
        Err(refused) => bail!("an image was refused: {}: {}", refused.code, refused.message),
    };
    let turn = sent.turn_id.context("the prompt with an image began no turn")?;
    let ended = talk.end(turn).await?;
    ended.require(TurnOutcome::Completed)?;
    let kept = |part: &Part| matches!(part, Part::Image { blob: named, .. } if named.hash == blob.hash);
    ensure!(
        ended.prompt_parts().any(kept),
        "the prompt in the log has no image"
    );
    let answer = ended.answer();
    ensure!(
        answer.contains("1 image: ") && answer.contains(IMAGE_SIDES),
        "the model was shown the image as {}",
        spoken(&answer)
    );
    bench.keep(talk);
    Ok(if answer.contains(&format!("sha256 {}", &blob.hash[..12])) {
        Verdict::Ok
    } else {
        Verdict::Noted("the harness encodes the image anew".to_owned())
    })
}

/// The model says what images it is shown.
fn shown(blob: BlobRef) -> CommandBody {
    let parts = vec![Part::text("look"), Part::Image { blob, alt: None }];
    CommandBody::Prompt { parts }
}
