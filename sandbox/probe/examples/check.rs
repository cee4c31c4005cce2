//! `check TIER [PROFILE] [ID]...`: the probes without a broker, against the binaries in `target/`.

use std::path::PathBuf;
use std::process::ExitCode;

use lodge_probe::{Options, check};
use lodge_sandbox::findings::shown;
use lodge_sandbox::launch::Tools;
use lodge_sandbox::policy::{Profile, Tier};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let tier = match words.first().map(String::as_str) {
        Some("container") => Tier::Container,
        Some("microvm") => Tier::Microvm,
        _ => Tier::Process,
    };
    let profile = match words.get(1).map(String::as_str) {
        Some("strict") => Profile::Strict,
        Some("minimal") => Profile::Minimal,
        _ => Profile::Development,
    };
    let target = std::env::var_os("LODGE_TARGET").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    let state = std::env::var_os("LODGE_STATE")
        .map_or_else(|| std::env::temp_dir().join("lodge-probe-state"), PathBuf::from);
    if let Err(error) = std::fs::create_dir_all(&state) {
        eprintln!("{}: {error}", state.display());
        return ExitCode::FAILURE;
    }
    let show = |text: &str| shown(text.as_ref());
    let options = Options {
        tier,
        profile,
        tools: Tools {
            tier_binary: target.join("debug/lodge-tier"),
            init_binary: target.join("guest/lodge-init"),
            state,
        },
        program: target.join("guest/lodge-probe"),
        ids: words.iter().skip(2).cloned().collect(),
        scene_parent: None,
        broker: None,
        show: &show,
        progress: None,
    };
    match check(&options) {
        Ok(report) => {
            print!("{}", report.text());
            ExitCode::from(u8::from(report.differences().next().is_some()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
