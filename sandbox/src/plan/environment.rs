//! The environments of guest init and of commands.

use lodge_guest::mux;
use lodge_guest::walls::{self, Walls};

use super::{
    ENV_EGRESS_PORTS, ENV_OWN_NETWORK, GATEWAY_PORT, GUEST_GATEWAY, GUEST_HOME, MUX_FD, Network, PlanError,
    SessionSpec,
};
use crate::policy::{Policy, Tier};
use crate::view::HostView;

/// Variables that lead programs to a proxy, for those that do not connect by themselves.
const PROXY: &[&str] = &[
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
];
const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];

/// What guest init is told. Where it finds its stream in the other tiers is the business of their launchers.
pub(super) fn init(tier: Tier, walls: &Walls, network: &Network) -> Result<Vec<(String, String)>, PlanError> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    let mut env = Vec::new();
    if tier == Tier::Process {
        env.push(pair(mux::ENV_FD, MUX_FD.to_string()));
    }
    // A microVM has no socket of the host: connections travel in the framed stream.
    if tier != Tier::Microvm {
        env.push(pair("LODGE_GATEWAY_SOCK", GUEST_GATEWAY.to_owned()));
    }
    env.push(pair("LODGE_GATEWAY_PORT", GATEWAY_PORT.to_string()));
    if let Network::Broker { ports } = network {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        env.push(pair(ENV_EGRESS_PORTS, ports.join(",")));
        if tier == Tier::Process {
            env.push(pair(ENV_OWN_NETWORK, "1".to_owned()));
        }
    }
    env.push(pair(walls::ENV, serde_json::to_string(walls)?));
    Ok(env)
}

pub(super) fn guest(
    policy: &Policy,
    spec: &SessionSpec,
    view: &HostView,
    network: &Network,
) -> Vec<(String, String)> {
    let path =
        format!("{GUEST_HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    let gateway = format!("http://127.0.0.1:{GATEWAY_PORT}");
    let fixed = [
        ("HOME", GUEST_HOME),
        ("LANG", "C.UTF-8"),
        ("LODGE_GATEWAY_URL", &gateway),
        ("LODGE_SESSION_ID", &spec.session_id),
        ("LOGNAME", "guest"),
        ("PATH", &path),
        ("SHELL", "/bin/sh"),
        ("TERM", "dumb"),
        ("TMPDIR", "/tmp"),
        ("USER", "guest"),
    ];
    let mut proxies = Vec::new();
    if matches!(network, Network::Broker { .. }) {
        proxies.extend(PROXY.iter().map(|&name| (name, gateway.as_str())));
        proxies.extend(NO_PROXY.iter().map(|&name| (name, "127.0.0.1,localhost,::1")));
    }
    // The fixed part comes last: neither a passed nor a set variable may change it.
    let mut env = view.env.clone();
    env.extend(policy.env.set.clone());
    let fixed = fixed.into_iter().chain(proxies);
    env.extend(fixed.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env.into_iter().collect()
}
