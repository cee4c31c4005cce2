//! `lodge down`

use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::lock;
use crate::terminal::println;
use lodge_proto::ErrorCode;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::time::Duration;

/// Stop the Lodge of this data directory: turns are ended as interrupted, sessions can be resumed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lodge down\n  lodge down --data /srv/lodge")]
pub struct Args {
    /// Seconds to wait for its end.
    #[arg(long, default_value_t = 40, value_name = "SECONDS")]
    timeout: u64,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let Some(pid) = lock::holder(data)? else {
        println(&format!("Lodge does not run on {}.", data.path().display()));
        return Ok(0);
    };
    stop(data, pid, Duration::from_secs(args.timeout)).await?;
    println("Lodge has stopped.");
    Ok(0)
}

async fn stop(data: &DataDir, pid: u32, limit: Duration) -> anyhow::Result<()> {
    let place = format!("process {pid}, data directory {}", data.path().display());
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number
        .ok_or_else(|| Failure::new(ErrorCode::Internal, "the lock names no process").at(place.clone()))?;
    match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        // The number is that of the process which holds the lock only while the lock is held.
        Ok(process) if lock::holder(data)? == Some(pid) => {
            rustix::process::pidfd_send_signal(&process, Signal::TERM).map_err(|e| {
                Failure::new(ErrorCode::Forbidden, format!("it cannot be stopped: {e}")).at(place.clone())
            })?;
        }
        _ => {}
    }
    if lock::wait_free(data, limit).await? {
        return Ok(());
    }
    let what = format!("it has not stopped within {} s", limit.as_secs());
    Err(Failure::new(ErrorCode::DeadlineExceeded, what)
        .at(place)
        .mend(format!("kill -9 {pid}"))
        .into())
}
