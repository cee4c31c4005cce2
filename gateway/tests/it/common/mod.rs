//! A gateway, a runner, a guest and a provider, all in one test.

pub(crate) mod guest;
pub(crate) mod origin;
pub(crate) mod runner;
pub(crate) mod upstream;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lodge_gateway::{Config, Options};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The key the provider knows, which no guest may see.
pub(crate) const PROVIDER_KEY: &str = "sk-real-provider-key-0123456789";

/// The key of another account.
pub(crate) const SECOND_KEY: &str = "sk-real-second-key-9876543210";

/// Fails the test where something does not happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("this did not happen: {what}"))
}

/// A running gateway, with a runtime of its own that can be taken from under it.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), lodge_gateway::Error>>,
    runtime: Option<Runtime>,
}

impl Running {
    /// Starts on a data directory; returns when the sockets are there.
    pub(crate) async fn start(data: &Path, settings: &str) -> Self {
        Self::start_with(data, settings, |_| {}).await
    }

    pub(crate) async fn start_with(data: &Path, settings: &str, change: impl FnOnce(&mut Config)) -> Self {
        let variable = |name: &str, key: &str| (name.to_owned(), zeroize::Zeroizing::new(key.to_owned()));
        let environment = BTreeMap::from([
            variable("PROVIDER_KEY", PROVIDER_KEY),
            variable("SECOND_KEY", SECOND_KEY),
        ]);
        let mut config = Config::parse(&Options::embedded(data), settings, &environment).unwrap();
        change(&mut config);
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let serve = lodge_gateway::serve(config, move || ready.send(()).unwrap(), async move {
            let _gone_or_told = stopped.await;
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let task = runtime.spawn(serve);
        soon("the gateway is ready", is_ready).await.unwrap();
        Self {
            stop: Some(stop),
            task,
            runtime: Some(runtime),
        }
    }

    /// Stops as on TERM.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        soon("the gateway stops", &mut self.task).await.unwrap().unwrap();
    }

    /// Stops as on KILL: every task ends where it stands, nothing is tidied up.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE))
            .await
            .unwrap();
        assert!(
            soon("the gateway is gone", &mut self.task)
                .await
                .unwrap_err()
                .is_cancelled()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
