//! What the agent says: text, thinking, odd characters; and a prompt with an image.

use super::super::bench::{Bench, Done, Verdict};
use super::super::turn::spoken;
use anyhow::{bail, ensure};
use lodge_proto::message::Usage;
use lodge_proto::part::BlobRef;
use lodge_proto::{CommandBody, ErrorCode, EventBody, Part};

/// Beyond 16 bits, and a separator that some take for the end of a line.
const ODD: &str = "😀 𝔘𝔫𝔦\u{2028}line ünd";

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
    let blob = BlobRef {
        hash: "0".repeat(64),
        media_type: "image/png".to_owned(),
        size: 68,
        name: None,
    };
    let parts = vec![Part::text("say an image"), Part::Image { blob, alt: None }];
    let can = talk.capabilities().images;
    let sent = talk.try_call(CommandBody::Prompt { parts }).await?;
    bench.observed.images = Some(sent.is_ok());
    let done = match sent {
        Err(refused) if refused.code == ErrorCode::UnsupportedByHarness && !can => {
            Ok(Verdict::Unsupported(refused.message))
        }
        Err(refused) if !can => bail!(
            "a prompt with an image was refused as {}, not as unsupported_by_harness",
            refused.code
        ),
        // There is no image of that hash.
        Err(refused) if refused.code == ErrorCode::NotFound => Ok(Verdict::Ok),
        Err(refused) => bail!(
            "the session has images, and refused one: {}: {}",
            refused.code,
            refused.message
        ),
        Ok(_) if !can => bail!("the session has no images, and took one"),
        Ok(_) => bail!("an image that nobody uploaded was taken"),
    };
    bench.keep(talk);
    done
}
