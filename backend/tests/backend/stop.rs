//! Start and stop.

use crate::support::{Backend, within};
use lodge_backend::{Config, Error, Settings};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_stop_closes_sockets_with_restart_and_ends() {
    let mut backend = Backend::start().await;
    let mut browser = backend.browse(&backend.login().await).await;
    backend.begin_stop();
    assert_eq!(browser.closed_with().await, 1012);
    backend.stop().await;
}

#[tokio::test]
async fn it_starts_again_over_what_a_killed_one_left() {
    let directory = tempfile::tempdir().unwrap();
    let first = Backend::start_on(directory.path()).await;
    let cookie = first.login().await;
    // Dropped without a stop, its socket file stays.
    let second = Backend::start_on(directory.path()).await;
    assert_eq!(second.get("/api/v1/me", &cookie).await.status, 200);
    let mode = std::fs::metadata(directory.path().join("run/backend-control.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_taken_address_and_an_open_one_are_refused() {
    let backend = Backend::start().await;
    let directory = tempfile::tempdir().unwrap();
    let start = |listen| {
        let config = Config::embedded(
            directory.path(),
            Settings {
                listen,
                ..Settings::default()
            },
        );
        within(lodge_backend::serve(
            config,
            |_| panic!("must not start"),
            std::future::pending(),
        ))
    };
    let taken = start(backend.address).await.unwrap_err();
    assert!(matches!(taken, Error::Listen { .. }), "{taken}");
    let open = start("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
    assert!(matches!(open, Error::NotLoopback { .. }), "{open}");
}
