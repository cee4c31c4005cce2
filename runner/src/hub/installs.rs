//! Installations of harnesses that clients asked for. They go on by themselves; the list of harnesses tells how.

use crate::config::Config;
use crate::harness::install::{Installer, Progress, Source, Step};
use crate::shared::harness_error;
use lodge_proto::command::{HarnessInfo, Installing};
use lodge_proto::{ErrorBody, ErrorCode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the latest installation of a harness stands; none that succeeded is kept.
#[derive(Debug, Clone)]
enum Latest {
    UnderWay(Installing),
    Failed(ErrorBody),
}

/// The installations of one runner, by the names of their harnesses.
#[derive(Debug, Clone, Default)]
pub(super) struct Installs(Arc<Mutex<BTreeMap<String, Latest>>>);

impl Installs {
    /// Every harness, with what is known of its installation. It reads files.
    pub(super) fn list(&self, config: &Config) -> Result<Vec<HarnessInfo>, ErrorBody> {
        let installer = Installer::new(&config.data_dir).map_err(|error| harness_error(&error))?;
        let mut harnesses = installer.list();
        let latest = self.lock();
        for harness in &mut harnesses {
            match latest.get(&harness.name) {
                Some(Latest::UnderWay(installing)) => harness.installing = Some(installing.clone()),
                Some(Latest::Failed(error)) if !harness.installed => harness.problem = Some(error.clone()),
                _ => {}
            }
        }
        harnesses.extend(config.agents.list(&config.places()));
        Ok(harnesses)
    }

    /// Begins to install `name`. One at a time; an end that is no success is kept for the list.
    pub(super) fn begin(&self, config: &Config, name: &str) -> Result<(), ErrorBody> {
        if config.agents.get(name).is_some() {
            let message =
                format!("`{name}` is an [[agent]] of config/lodge.toml: it is not Lodge's to install");
            return Err(ErrorBody::new(ErrorCode::InvalidArgument, message));
        }
        let installer = Installer::new(&config.data_dir).map_err(|error| harness_error(&error))?;
        let entry = installer
            .catalog()
            .harness(name)
            .map_err(|error| harness_error(&error))?;
        let step = format!("preparing to install {}", entry.title);
        let Some(way_out) = config.way_out.clone() else {
            let error = crate::harness::install::InstallError::NoWayOut;
            return Err(harness_error(&error));
        };
        let installer = installer.with_way_out(way_out);
        {
            let mut latest = self.lock();
            if latest.values().any(|one| matches!(one, Latest::UnderWay(_))) {
                let message = "another harness is being installed; wait for its end and try again";
                return Err(ErrorBody::new(ErrorCode::Busy, message));
            }
            let (done, total) = (0, 0);
            latest.insert(
                name.to_owned(),
                Latest::UnderWay(Installing { step, done, total }),
            );
        }
        let mut told = Told {
            installs: self.clone(),
            name: name.to_owned(),
        };
        // A thread of its own: the runner's end does not wait for it, and what it leaves is removed by the next one.
        let work = move || {
            let source = Source::Registry { cache: None };
            let name = told.name.clone();
            let result = installer.install(&name, &source, &mut told);
            told.installs
                .ended(&name, result.err().as_ref().map(ErrorBody::from));
        };
        let started = std::thread::Builder::new().name("install".to_owned()).spawn(work);
        started.map(drop).map_err(|error| {
            let error = ErrorBody::new(ErrorCode::Internal, format!("starting the installation: {error}"));
            self.ended(name, Some(error.clone()));
            error
        })
    }

    fn ended(&self, name: &str, error: Option<ErrorBody>) {
        let mut latest = self.lock();
        match error {
            Some(error) => {
                tracing::warn!(harness = name, code = ?error.code, "an installation failed");
                latest.insert(name.to_owned(), Latest::Failed(error));
            }
            None => {
                latest.remove(name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Latest>> {
        // Every change is one assignment, so what a panic leaves is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down how one installation goes on.
struct Told {
    installs: Installs,
    name: String,
}

impl Told {
    fn change(&self, change: impl FnOnce(&mut Installing)) {
        if let Some(Latest::UnderWay(installing)) = self.installs.lock().get_mut(&self.name) {
            change(installing);
        }
    }
}

impl Progress for Told {
    fn step(&mut self, step: &Step) {
        let step = step.to_string();
        self.change(|installing| {
            *installing = Installing {
                step,
                done: 0,
                total: 0,
            }
        });
    }

    fn packages(&mut self, done: usize, total: usize) {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.change(|installing| {
            installing.done = number(done);
            installing.total = number(total);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::install::{Registry, WayOut};
    use std::any::Any;
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::time::{Duration, Instant};

    /// A way out that leads nowhere.
    #[derive(Debug)]
    struct Nowhere;

    impl WayOut for Nowhere {
        fn serve(&self, _: UnixListener, _: &Registry) -> std::io::Result<Box<dyn Any + Send>> {
            Err(std::io::Error::other("nowhere"))
        }
    }

    fn config(data: &Path) -> Config {
        Config {
            way_out: Some(Arc::new(Nowhere)),
            ..Config::new(data, Path::new("/nonexistent"))
        }
    }

    fn of(installs: &Installs, config: &Config, name: &str) -> HarnessInfo {
        let mut list = installs.list(config).unwrap();
        list.retain(|harness| harness.name == name);
        list.remove(0)
    }

    #[test]
    fn what_cannot_begin_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let installs = Installs::default();
        let error = installs.begin(&config(data.path()), "nobody").unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound);
        let no_way = Config::new(data.path(), Path::new("/nonexistent"));
        let error = installs.begin(&no_way, "pi").unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(of(&installs, &no_way, "pi").installing.is_none());
    }

    #[test]
    fn a_failure_is_told_until_the_next_attempt() {
        let data = tempfile::tempdir().unwrap();
        let (installs, config) = (Installs::default(), config(data.path()));
        installs.begin(&config, "pi").unwrap();
        let end = Instant::now() + Duration::from_mins(1);
        while of(&installs, &config, "pi").installing.is_some() {
            assert!(Instant::now() < end, "it never ended");
            std::thread::yield_now();
        }
        let problem = of(&installs, &config, "pi").problem.unwrap();
        assert_ne!(problem.code, ErrorCode::HarnessNotInstalled, "{problem:?}");
        installs.begin(&config, "pi").unwrap();
    }

    #[test]
    fn one_at_a_time_with_its_progress() {
        let data = tempfile::tempdir().unwrap();
        let (installs, config) = (Installs::default(), config(data.path()));
        let step = "fetching".to_owned();
        let under_way = Latest::UnderWay(Installing {
            step,
            done: 0,
            total: 0,
        });
        installs.lock().insert("codex".to_owned(), under_way);
        assert_eq!(installs.begin(&config, "pi").unwrap_err().code, ErrorCode::Busy);
        let mut told = Told {
            installs: installs.clone(),
            name: "codex".to_owned(),
        };
        told.step(&Step::Checking {
            name: "Codex".to_owned(),
        });
        told.packages(2, 3);
        let installing = of(&installs, &config, "codex").installing.unwrap();
        assert_eq!((installing.done, installing.total), (2, 3));
        assert_eq!(installing.step, "checking Codex");
        installs.ended("codex", None);
        assert!(of(&installs, &config, "codex").installing.is_none());
    }
}
