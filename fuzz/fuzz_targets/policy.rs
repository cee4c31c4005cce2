//! A policy file of a workspace: whatever it says, it is refused or it only tightens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lodge_sandbox::policy::{Layer, Policy, Profile};
use std::path::Path;

fuzz_target!(|text: &str| {
    let Ok(layer) = Layer::parse(Path::new("fuzzed.toml"), text) else {
        return;
    };
    let _ = Policy::base(&layer);
    for profile in [Profile::Minimal, Profile::Development, Profile::Strict] {
        let above = Policy::of(profile);
        if let Ok(below) = above.tighten(&layer) {
            assert!(below.is_within(&above), "{below:?} is looser than {above:?}");
        }
    }
});
