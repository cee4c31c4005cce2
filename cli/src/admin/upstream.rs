//! `lodgectl`: accounts of providers. How they fare, whether they work, logging in, and the configuration read again.

use crate::admin::{channel, refused};
use crate::failure::Failure;
use crate::table;
use crate::terminal::{print_json, println};
use lodge_proto::ErrorCode;
use lodge_proto::control::gateway_accounts_client::GatewayAccountsClient;
use lodge_proto::control::{
    AccountState, BeginLoginRequest, FinishLoginRequest, QuotaRequest, QuotaWindow, ReloadRequest,
    ResealRequest, TestProviderRequest,
};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::transport::Channel;

async fn connect(socket: &Path) -> anyhow::Result<GatewayAccountsClient<Channel>> {
    Ok(GatewayAccountsClient::new(channel(socket).await?))
}

/// Tests a provider with each of its accounts; an error where none of them works.
pub(crate) async fn test(socket: &Path, name: &str, as_json: bool) -> anyhow::Result<()> {
    let request = TestProviderRequest {
        name: name.to_owned(),
    };
    let answer = connect(socket).await?.test_provider(request).await;
    let accounts = answer.map_err(|status| refused(&status))?.into_inner().accounts;
    if as_json {
        let value = |test: &lodge_proto::control::AccountTest| {
            json!({
                "account": test.account, "ok": test.ok, "status": test.status, "message": test.message,
                "milliseconds": test.milliseconds,
            })
        };
        print_json(&accounts.iter().map(value).collect::<Vec<_>>())?;
    } else {
        let row = |test: &lodge_proto::control::AccountTest| {
            let result = if test.ok {
                "works".to_owned()
            } else {
                test.message.clone()
            };
            [test.account.clone(), format!("{} ms", test.milliseconds), result]
        };
        let rows: Vec<_> = accounts.iter().map(row).collect();
        table::print(["ACCOUNT", "TIME", "RESULT"], &rows);
    }
    if accounts.iter().any(|test| test.ok) {
        return Ok(());
    }
    let failure = Failure::new(ErrorCode::Unavailable, format!("no account of {name} works"));
    Err(failure.mend("check its key and its base_url").into())
}

/// Shows how every account fares.
pub(crate) async fn quota(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let answer = connect(socket).await?.quota(QuotaRequest {}).await;
    let accounts = answer.map_err(|status| refused(&status))?.into_inner().accounts;
    if as_json {
        return print_json(&accounts.iter().map(as_value).collect::<Vec<_>>());
    }
    let now = now();
    let mut rows = Vec::new();
    for account in &accounts {
        let state = match account.paused_until {
            0 => account.state.clone(),
            until => format!("{}, back {}", account.state, in_time(until, now)),
        };
        let head = [account.provider.clone(), account.account.clone(), state];
        let windows: Vec<[String; 3]> = account.windows.iter().map(|window| cells(window, now)).collect();
        let windows = if windows.is_empty() {
            vec![Default::default()]
        } else {
            windows
        };
        for window in windows {
            let [[provider, account, state], [name, left, resets]] = [head.clone(), window];
            rows.push([provider, account, state, name, left, resets]);
        }
    }
    table::print(
        ["PROVIDER", "ACCOUNT", "STATE", "QUOTA", "LEFT", "FULL AGAIN"],
        &rows,
    );
    Ok(())
}

fn cells(window: &QuotaWindow, now: u64) -> [String; 3] {
    let left = match (window.remaining, window.limit, window.used_percent) {
        (Some(remaining), Some(limit), _) => format!("{remaining} of {limit}"),
        (Some(remaining), None, _) => remaining.to_string(),
        (None, _, Some(used)) => format!("{used:.0} % used"),
        _ => window.status.clone(),
    };
    let resets = window.resets_at.map(|at| in_time(at, now)).unwrap_or_default();
    [window.name.clone(), left, resets]
}

fn as_value(account: &AccountState) -> serde_json::Value {
    let window = |window: &QuotaWindow| {
        json!({
            "name": window.name, "limit": window.limit, "remaining": window.remaining,
            "used_percent": window.used_percent, "resets_at": window.resets_at, "status": window.status,
        })
    };
    let windows: Vec<_> = account.windows.iter().map(window).collect();
    json!({
        "provider": account.provider, "account": account.account, "state": account.state,
        "paused_until": account.paused_until, "windows": windows, "told_at": account.told_at,
    })
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn in_time(at: u64, now: u64) -> String {
    match at.saturating_sub(now).div_ceil(1000) {
        0 => "now".to_owned(),
        seconds @ 1..=119 => format!("in {seconds} s"),
        seconds => format!("in {} min", seconds.div_ceil(60)),
    }
}

/// Has the configuration read again.
pub(crate) async fn reload(socket: &Path, as_json: bool) -> anyhow::Result<()> {
    let answer = connect(socket).await?.reload(ReloadRequest {}).await;
    let answer = answer.map_err(|status| refused(&status))?.into_inner();
    if as_json {
        return print_json(&json!({ "needs_restart": answer.needs_restart }));
    }
    println("the configuration is read again");
    for section in answer.needs_restart {
        println(&format!("[{section}] changed and needs a restart"));
    }
    Ok(())
}

/// Has a new seal key made.
pub(crate) async fn reseal(socket: &Path) -> anyhow::Result<()> {
    let answer = connect(socket).await?.reseal(ResealRequest {}).await;
    answer.map_err(|status| refused(&status))?;
    println(
        "a new seal key is made; everything that is sealed goes over to it at the next start: lodge down, lodge up",
    );
    println("back up the data directory after that: an older backup opens with its own seal.key only");
    Ok(())
}

/// Logs into an account; returns when it is done.
pub(crate) async fn login(socket: &Path, provider: &str, account: &str, device: bool) -> anyhow::Result<()> {
    let mut client = connect(socket).await?;
    let begin = BeginLoginRequest {
        provider: provider.to_owned(),
        account: account.to_owned(),
        device,
    };
    let begun = client
        .begin_login(begin)
        .await
        .map_err(|status| refused(&status))?
        .into_inner();
    println(&format!("Open {}", begun.url));
    let mut finish = FinishLoginRequest {
        provider: provider.to_owned(),
        account: account.to_owned(),
        state: String::new(),
        code: String::new(),
    };
    let mut wait = begun.interval;
    if device {
        println(&format!("and type {}", begun.user_code));
    } else {
        eprintln!("Then paste the whole address that it leads to:");
        (finish.code, finish.state) = read_address()?;
    }
    loop {
        if device {
            tokio::time::sleep(Duration::from_secs(wait.max(1))).await;
        }
        let answer = client.finish_login(finish.clone()).await;
        let answer = answer.map_err(|status| refused(&status))?.into_inner();
        if answer.logged_in {
            println(&format!("{provider}: {account} is logged in"));
            return Ok(());
        }
        wait = answer.after;
    }
}

/// Code and state of an address with `?code=…&state=…`.
fn read_address() -> anyhow::Result<(String, String)> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    parse_address(line.trim()).ok_or_else(|| {
        Failure::new(ErrorCode::InvalidArgument, "the address has no code and state")
            .mend("paste the address from the browser's address bar after logging in")
            .into()
    })
}

fn parse_address(address: &str) -> Option<(String, String)> {
    let query = address.split_once('?')?.1.split('#').next()?;
    let field = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
            .next()
    };
    Some((field("code")??, field("state")??))
}

/// Without percent-encoding; none where it is not well formed.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_address_is_read() {
        assert_eq!(
            parse_address("http://localhost:1455/callback?code=a%2Fb&state=s-1#x"),
            Some(("a/b".to_owned(), "s-1".to_owned()))
        );
        for address in [
            "",
            "http://x",
            "http://x?code=a",
            "http://x?code=%&state=s",
            "http://x?code=%zz&state=s",
        ] {
            assert_eq!(parse_address(address), None, "{address}");
        }
    }

    #[test]
    fn times_are_for_people() {
        let shown = [0, 1, 119_000, 119_001].map(|at| in_time(at, 0));
        assert_eq!(shown, ["now", "in 1 s", "in 119 s", "in 2 min"]);
    }
}
