//! A harness that is not as it should be: another version, no program, a home that cannot be written.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::{Sent, Talk};
use super::super::world::World;
use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::{CommandBody, ErrorBody, ErrorCode, Part};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A version that no adapter accepts.
const OLD: &str = "0.0.1";
/// After so long a harness that cannot write is given up, its start and one more included.
const GIVEN_UP_WITHIN: Duration = Duration::from_mins(2);

/// Nothing is installed but a version that the adapter does not know.
pub(super) async fn version(bench: &mut Bench<'_>) -> Done {
    let world = bench.quiet.with_own_harnesses().await?;
    let done = refused_version(bench, &world).await;
    world.stop().await;
    done
}

async fn refused_version(bench: &mut Bench<'_>, world: &World) -> Done {
    std::fs::create_dir_all(world.harnesses().join(bench.harness).join(OLD))?;
    let error = match bench.beside(world).await {
        Ok(_) => bail!("version {OLD} was started"),
        Err(error) => error.downcast::<ErrorBody>()?,
    };
    named(&error, &[OLD, bench.harness])?;
    Ok(Verdict::Noted(format!("refused, {}", error.code)))
}

/// The program goes away between two starts.
pub(super) async fn missing(bench: &mut Bench<'_>) -> Done {
    let world = bench.quiet.another().await?;
    let done = gone_and_back(bench, &world).await;
    world.stop().await;
    done
}

async fn gone_and_back(bench: &mut Bench<'_>, world: &World) -> Done {
    let mut talk = bench.beside(world).await?;
    talk.complete("say first").await?;
    talk.call(CommandBody::SessionClose {}).await?;
    let (there, away) = (world.harnesses(), world.harnesses().with_extension("away"));
    std::fs::rename(&there, &away)?;
    let parts = vec![Part::text("say second")];
    let refused = talk.try_call(CommandBody::Prompt { parts }).await?;
    std::fs::rename(&away, &there)?;
    let Err(error) = refused else {
        bail!("a prompt was taken although there is no program");
    };
    named(&error, &[bench.harness])?;
    talk.still_works("third").await?;
    talk.close().await?;
    Ok(Verdict::Noted(format!(
        "refused, {}; goes on when it is back",
        error.code
    )))
}

fn named(error: &ErrorBody, words: &[&str]) -> anyhow::Result<()> {
    ensure!(
        error.code == ErrorCode::HarnessNotInstalled,
        "the error is {}: {}",
        error.code,
        error.message
    );
    for word in words {
        ensure!(
            error.message.contains(word),
            "the error does not name {word}: {}",
            error.message
        );
    }
    Ok(())
}

/// Nothing below the private home can be written. Some harnesses do without; the others say so and end.
pub(super) async fn read_only_home(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.own().await?;
    talk.complete("say first").await?;
    talk.call(CommandBody::SessionClose {}).await?;
    let home = bench.quiet.home(talk.session());
    let locked = Locked::new(&home)?;
    let begin = tokio::time::Instant::now();
    let outcome = prompt_once(&mut talk).await?;
    let took = begin.elapsed();
    drop(locked);
    ensure!(took <= GIVEN_UP_WITHIN, "it took {took:?}");
    let note = match outcome {
        None => "does without".to_owned(),
        Some(error) => {
            ensure!(!error.message.trim().is_empty(), "the error says nothing");
            format!("{} after {:.1} s", error.code, took.as_secs_f64())
        }
    };
    // One that began without its files may go on without them until it is started again.
    talk.call(CommandBody::SessionClose {}).await?;
    talk.still_works("third").await?;
    talk.close().await?;
    Ok(Verdict::Noted(note))
}

/// A prompt that may be refused, or fail.
async fn prompt_once(talk: &mut Talk) -> anyhow::Result<Option<ErrorBody>> {
    let parts = vec![Part::text("say second")];
    let sent = match talk.try_call(CommandBody::Prompt { parts }).await? {
        Ok(sent) => serde_json::from_value::<Sent>(sent)?,
        Err(refused) => return Ok(Some(refused)),
    };
    let Some(turn) = sent.turn_id else {
        bail!("the prompt was answered with `{}`", sent.disposition);
    };
    let ended = talk.end(turn).await?;
    match (ended.outcome, ended.error) {
        (TurnOutcome::Completed, _) => Ok(None),
        (_, Some(error)) => Ok(Some(error)),
        (outcome, None) => bail!("the turn ended {} without an error", outcome.as_str()),
    }
}

/// A directory in which nothing can be written, until this is dropped.
#[derive(Debug)]
struct Locked {
    modes: Vec<(PathBuf, Permissions)>,
}

impl Locked {
    fn new(folder: &Path) -> std::io::Result<Self> {
        let mut modes = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    modes.push((entry.path(), entry.metadata()?.permissions()));
                }
            }
            modes.push((folder.clone(), std::fs::metadata(&folder)?.permissions()));
        }
        for (path, mode) in &modes {
            std::fs::set_permissions(path, Permissions::from_mode(mode.mode() & !0o222))?;
        }
        Ok(Self { modes })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        for (path, mode) in &self.modes {
            let _ = std::fs::set_permissions(path, mode.clone());
        }
    }
}
