//! Clocks that jump: somebody sets the time, a machine boots with a wrong one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lodge_gateway::clock::Clock;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::{CreateKeyRequest, VirtualKey};
use tonic::transport::Channel;

use super::{PATHS, Scene, settings};
use crate::admin::admin;
use crate::budget::{ASK, RESERVED, address, budget, of_user, send, settled};
use crate::common::guest::{Guest, json, post, text};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::common::{Running, soon};

const DAY: u64 = 86_400;
/// Noon of a day in the middle of a month.
const NOON: u64 = 20_774 * DAY + DAY / 2;

#[derive(Debug)]
struct Set {
    boot: AtomicU64,
    wall: AtomicU64,
    id: Mutex<String>,
}

impl Set {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            boot: AtomicU64::new(1000),
            wall: AtomicU64::new(NOON),
            id: Mutex::new("first".into()),
        })
    }

    /// Time passes.
    fn pass(&self, seconds: u64) {
        self.boot.fetch_add(seconds, Ordering::SeqCst);
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Somebody sets the time.
    fn set(&self, wall: u64) {
        self.wall.store(wall, Ordering::SeqCst);
    }

    fn reboot(&self, id: &str, wall: u64) {
        *self.id.lock().unwrap() = id.into();
        self.boot.store(5, Ordering::SeqCst);
        self.set(wall);
    }
}

impl Clock for Set {
    fn since_boot(&self) -> Duration {
        Duration::from_secs(self.boot.load(Ordering::SeqCst))
    }

    fn wall(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn boot_id(&self) -> std::io::Result<String> {
        Ok(self.id.lock().unwrap().clone())
    }
}

/// A key with room for one request a day and for three in all.
struct Spender {
    admin: GatewayAdminClient<Channel>,
    key: VirtualKey,
    secret: String,
}

impl Spender {
    /// Asks; the provider takes all that was reserved for it.
    async fn ask(&mut self, upstream: &mut Upstream) -> u16 {
        let address = address(&mut self.admin).await;
        let mut asking = Box::pin(send(address, post(PATHS[2], &self.secret, ASK)));
        let answer = tokio::select! {
            answer = &mut asking => answer,
            mut exchange = upstream.next() => {
                let input = RESERVED / 2000;
                let usage = format!(r#"{{"type":"message","usage":{{"input_tokens":{input},"output_tokens":0}}}}"#);
                exchange.answer("200 OK", "content-type: application/json\r\n", &usage).await;
                asking.await
            }
        };
        let status = answer.status().as_u16();
        text(answer).await;
        settled(&mut self.admin, &format!("key:{}", self.key.id)).await;
        status
    }
}

#[tokio::test]
async fn no_window_opens_or_closes_because_somebody_sets_the_time() {
    let clock = Set::new();
    let shared = Arc::clone(&clock);
    let mut upstream = Upstream::start().await;
    let data = tempfile::tempdir().unwrap();
    let text = settings(upstream.port);
    let start = || {
        let clock = Arc::clone(&shared);
        Running::start_with(data.path(), &text, move |config| config.clock = clock)
    };
    let gateway = start().await;
    let mut client = admin(data.path()).await;
    let request = CreateKeyRequest {
        key: Some(VirtualKey {
            expires: NOON + 10 * DAY,
            ..of_user("ann")
        }),
        budgets: vec![budget("", "day", RESERVED), budget("", "month", RESERVED * 3)],
    };
    let made = client.create_key(request).await.unwrap().into_inner();
    let mut spender = Spender {
        admin: client,
        key: made.key.unwrap(),
        secret: made.secret,
    };
    assert_eq!(spender.ask(&mut upstream).await, 200);
    // Ahead over the day and the month, and back over the beginning of both; the key has not expired either.
    for wall in [NOON + DAY, NOON + 40 * DAY, NOON - 40 * DAY, 5] {
        clock.set(wall);
        assert_eq!(spender.ask(&mut upstream).await, 402, "{wall}");
    }
    // A restart believes it no more.
    gateway.stop().await;
    clock.set(NOON + 40 * DAY);
    let gateway = start().await;
    spender.admin = admin(data.path()).await;
    assert_eq!(spender.ask(&mut upstream).await, 402);
    // Time that passes opens the next day.
    clock.pass(DAY);
    assert_eq!(spender.ask(&mut upstream).await, 200);
    assert_eq!(spender.ask(&mut upstream).await, 402);
    // A boot with a clock that is behind opens none that was over.
    gateway.stop().await;
    clock.reboot("second", NOON - 300 * DAY);
    let gateway = start().await;
    spender.admin = admin(data.path()).await;
    assert_eq!(spender.ask(&mut upstream).await, 402);
    // One with a clock that is right opens the day that it is.
    gateway.stop().await;
    clock.reboot("third", NOON + 3 * DAY);
    let _gateway = start().await;
    spender.admin = admin(data.path()).await;
    assert_eq!(spender.ask(&mut upstream).await, 200);
    // Three in this month.
    clock.pass(DAY);
    assert_eq!(spender.ask(&mut upstream).await, 402);
}

#[tokio::test]
async fn leases_run_on_the_clock_that_nobody_sets() {
    let clock = Set::new();
    let shared = Arc::clone(&clock);
    let scene = Scene::with(move |config| config.clock = shared).await;
    let works = async |runner: &mut Runner| {
        let say = r#"{"model":"demo","messages":[{"role":"user","content":"say hi"}]}"#;
        let mut guest = Guest::connect(&scene.session.socket).await;
        let request = post("/demo/v1/chat/completions", &scene.session.lease.virtual_key, say);
        let answer = guest.send(request).await;
        assert_eq!(json(answer).await.0, 200);
        runner.renew(&[&scene.session.lease.lease_id]).await.is_empty()
    };
    let mut runner = Runner::connect(scene.data.path());
    for wall in [NOON + 400 * DAY, 5, NOON] {
        clock.set(wall);
        assert!(works(&mut runner).await, "{wall}");
    }
    // As long as it was granted for, and not renewed.
    clock.pass(u64::from(scene.session.lease.ttl_seconds) + 1);
    let lapsed = async {
        while runner.renew(&[&scene.session.lease.lease_id]).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the lease lapses", lapsed).await;
}
