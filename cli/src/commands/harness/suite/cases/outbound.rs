//! What a harness tries to reach besides the gateway: nothing.
//!
//! Three things tell. Connections by name come to the broker, which says so in `network.access`: after that no case goes
//! on, whichever it is. Names that are only asked for get addresses in order from guest init, so the address of a name
//! that is asked for last tells how many there were before. And addresses to which there is no way are counted by the
//! kernel of the sandbox.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::{ON_PURPOSE, Talk};
use anyhow::{Context as _, bail, ensure};
use lodge_proto::{CommandBody, EventBody};
use std::collections::BTreeSet;

/// Waits for what a harness does by itself some time after its start, then looks.
const LOOK: &str = r#"[ -z "$2" ] || sleep "$2"
name=$(getent hosts "last-$1.invalid" | sed 's/ .*//')
v4=$(awk '/^Ip:/ { if (!n++) { for (i = 1; i <= NF; i++) if ($i == "OutNoRoutes") c = i } else print $c }' /proc/net/snmp)
v6=$(sed -n 's/^Ip6OutNoRoutes[[:space:]]*//p' /proc/net/snmp6)
echo "$name $v4 $v6" > "seen-$1.txt"
"#;
/// Does what must be seen.
const CONTROL: &str = r"getent hosts control.invalid
(exec 3<>/dev/tcp/192.0.2.1/443) 2>/dev/null
(exec 3<>/dev/tcp/control.example/443) 2>/dev/null
true
";
/// The first address that guest init gives to a name.
const FIRST: [u8; 4] = [127, 1, 0, 1];
/// Seconds a harness has to do something by itself.
const ALONE: u32 = 6;

/// What a harness tried, as far as it leaves the sandbox.
#[derive(Debug, PartialEq, Eq)]
struct Tried {
    /// Names that were asked for.
    names: u32,
    /// Addresses without a way to them.
    addresses: u64,
}

pub(super) async fn outbound(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.own().await?;
    std::fs::write(talk.workspace().join("look.sh"), LOOK)?;
    std::fs::write(talk.workspace().join("control.sh"), CONTROL)?;
    nothing(&mut talk, "start", "the start and a turn with a tool").await?;
    // As a new process, with the conversation.
    talk.call(CommandBody::SessionClose {}).await?;
    nothing(&mut talk, "resume", "a resume and a turn with a tool").await?;
    talk.complete("use bash: bash control.sh; sh look.sh control")
        .await?;
    let control = tried(&talk, "control")?;
    // What was looked for before has an address too.
    let expected = Tried {
        names: 3,
        addresses: 1,
    };
    ensure!(
        control == expected,
        "three names and an address were tried on purpose, and {control:?} was seen"
    );
    if !places(&talk).contains(&format!("{ON_PURPOSE}:443")) {
        talk.until("the connection that was tried on purpose", |event| {
            matches!(&event.body, EventBody::NetworkAccess { host, .. } if host == ON_PURPOSE).then_some(())
        })
        .await?;
    }
    talk.close().await?;
    Ok(Verdict::Noted("nothing but the gateway".to_owned()))
}

/// A turn with a tool, up to the end of which nothing but the gateway was tried.
async fn nothing(talk: &mut Talk, step: &str, what: &str) -> anyhow::Result<()> {
    talk.complete(&format!("use bash: sh look.sh {step} {ALONE}"))
        .await?;
    let seen = tried(talk, step)?;
    let none = Tried {
        names: 0,
        addresses: 0,
    };
    ensure!(
        seen == none,
        "in {what} it tried something by itself: names asked for: {}; addresses without a way to them: {}",
        seen.names,
        seen.addresses
    );
    Ok(())
}

/// Where connections went, as the broker told.
fn places(talk: &Talk) -> BTreeSet<String> {
    let places = talk.log().iter().filter_map(|event| match &event.body {
        EventBody::NetworkAccess { host, port, .. } => Some(format!("{host}:{port}")),
        _ => None,
    });
    places.collect()
}

fn tried(talk: &Talk, step: &str) -> anyhow::Result<Tried> {
    let text = talk
        .file(&format!("seen-{step}.txt"))
        .context("the command that looks left nothing")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, v4, v6] = words[..] else {
        bail!("the command that looks left {text:?}");
    };
    let address: std::net::Ipv4Addr = name.parse()?;
    let [_, _, high, low] = address.octets();
    ensure!(
        address.octets()[..2] == FIRST[..2],
        "the name's address is {address}: guest init did not answer"
    );
    Ok(Tried {
        names: u32::from(high) * 254 + u32::from(low) - u32::from(FIRST[3]),
        addresses: v4.parse::<u64>()? + v6.parse::<u64>()?,
    })
}
