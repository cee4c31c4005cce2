//! Where the runner of an account lives.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// How a runner is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunnerAddress {
    /// A Unix socket of this host; the process behind it must run as `uid`.
    Unix { path: PathBuf, uid: u32 },
}

/// An account whose runner cannot be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("account `{account}` has no runner on this machine")]
    UnknownAccount { account: String },
}

/// Answer of [`Placement::locate`].
pub type Located<'a> = Pin<Box<dyn Future<Output = Result<RunnerAddress, PlacementError>> + Send + 'a>>;

/// Where an account's runner lives. Asked again before every attempt to connect, because a runner may move.
pub trait Placement: Debug + Send + Sync + 'static {
    /// The address of the runner of `account`.
    fn locate<'a>(&'a self, account: &'a str) -> Located<'a>;
}

/// One account, one machine, one runner.
#[derive(Debug, Clone)]
pub struct SingleMachine {
    /// The account that owns the runner.
    pub account: String,
    /// The runner's socket.
    pub socket: PathBuf,
    /// The uid the runner must have.
    pub uid: u32,
}

impl Placement for SingleMachine {
    fn locate<'a>(&'a self, account: &'a str) -> Located<'a> {
        Box::pin(async move {
            if account == self.account {
                Ok(RunnerAddress::Unix {
                    path: self.socket.clone(),
                    uid: self.uid,
                })
            } else {
                Err(PlacementError::UnknownAccount {
                    account: account.to_owned(),
                })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_has_a_runner_here() {
        let placement = SingleMachine {
            account: "local".into(),
            socket: "x/runner.sock".into(),
            uid: 7,
        };
        let found = placement.locate("local").await.unwrap();
        assert_eq!(
            found,
            RunnerAddress::Unix {
                path: "x/runner.sock".into(),
                uid: 7
            }
        );
        assert!(matches!(
            placement.locate("eve").await,
            Err(PlacementError::UnknownAccount { account }) if account == "eve"
        ));
    }
}
