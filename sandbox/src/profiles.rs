//! The default sets: what each profile means where no file says otherwise.

use std::collections::BTreeSet;

use crate::policy::{Env, Fs, Limits, Nesting, Net, Origins, Policy, Profile, Strength, Tier, Unlisted};
use crate::size::Bytes;

/// Control files whose content runs, or steers what runs, outside the sandbox when a person uses the workspace.
const PROTECTED: &[&str] = &[
    ".claude",
    ".codex",
    ".cursor",
    ".devcontainer",
    ".envrc",
    ".gemini",
    ".git/config",
    ".git/hooks",
    ".git/info",
    ".husky",
    ".idea",
    ".lodge",
    ".mcp.json",
    ".opencode",
    ".pi",
    ".vscode",
];

/// Package registries: what `npm install`, `pip install`, `cargo build` and their like fetch from.
const REGISTRIES: &[&str] = &[
    "api.nuget.org",
    "archive.ubuntu.com",
    "conda.anaconda.org",
    "crates.io",
    "deb.debian.org",
    "dl-cdn.alpinelinux.org",
    "files.pythonhosted.org",
    "hackage.haskell.org",
    "index.crates.io",
    "index.rubygems.org",
    "jsr.io",
    "nodejs.org",
    "npm.jsr.io",
    "plugins.gradle.org",
    "proxy.golang.org",
    "pypi.org",
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "repo.hex.pm",
    "repo.maven.apache.org",
    "repo.packagist.org",
    "repo1.maven.org",
    "rubygems.org",
    "security.debian.org",
    "security.ubuntu.com",
    "services.gradle.org",
    "static.crates.io",
    "static.rust-lang.org",
    "sum.golang.org",
];

/// Git hosts, with the hosts their archives and large files come from.
const GIT_HOSTS: &[&str] = &[
    "bitbucket.org",
    "codeberg.org",
    "codeload.github.com",
    "git.sr.ht",
    "github.com",
    "gitlab.com",
    "objects.githubusercontent.com",
    "raw.githubusercontent.com",
    "release-assets.githubusercontent.com",
];

/// What `minimal` adds: documentation and the rest of the hosts above.
const DOCUMENTATION: &[&str] = &[
    "*.debian.org",
    "*.kernel.org",
    "*.python.org",
    "*.rust-lang.org",
    "*.stackexchange.com",
    "*.ubuntu.com",
    "*.wikipedia.org",
    "api.github.com",
    "cdn.jsdelivr.net",
    "developer.mozilla.org",
    "docs.rs",
    "esm.sh",
    "go.dev",
    "learn.microsoft.com",
    "pkg.go.dev",
    "stackoverflow.com",
    "unpkg.com",
    "www.npmjs.com",
];

const DAY: u64 = 24 * 60 * 60;

impl Policy {
    /// The full default set of a profile.
    pub fn of(profile: Profile) -> Self {
        let strict = profile == Profile::Strict;
        Self {
            profile,
            tier: if strict { Tier::Microvm } else { Tier::Process },
            minimum_tier: if strict { Tier::Container } else { Tier::Process },
            nesting: match profile {
                Profile::Minimal => Nesting::OneLevel,
                Profile::Development | Profile::Strict => Nesting::Deny,
            },
            fs: Fs {
                home: profile == Profile::Minimal,
                read: BTreeSet::new(),
                write: BTreeSet::new(),
                deny: BTreeSet::new(),
                protect: owned(PROTECTED),
                tmp_size: Bytes::mib(if strict { 512 } else { 2048 }),
            },
            net: net(profile),
            env: Env::default(),
            limits: limits(profile),
            origins: Origins::new(),
        }
    }
}

fn owned(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn net(profile: Profile) -> Net {
    let usual = || &owned(REGISTRIES) | &owned(GIT_HOSTS);
    match profile {
        Profile::Strict => Net::None,
        Profile::Development => Net::Broker {
            allow: usual(),
            deny: BTreeSet::new(),
            // Debian's package manager speaks plain HTTP and checks signatures itself.
            ports: [80, 443].into(),
            unlisted: Unlisted::Deny,
        },
        Profile::Minimal => Net::Broker {
            allow: &usual() | &owned(DOCUMENTATION),
            deny: BTreeSet::new(),
            ports: [22, 80, 443].into(),
            unlisted: Unlisted::Ask,
        },
    }
}

/// Wide enough for a large build in `development`, for a task in `strict`.
fn limits(profile: Profile) -> Limits {
    let gib = |count: u64| Some(Bytes::mib(count << 10));
    match profile {
        Profile::Strict => Limits {
            processes: Some(256),
            memory: gib(2),
            file_size: gib(2),
            open_files: Some(1024),
            cpu_seconds: Some(4 * 60 * 60),
            disk: gib(4),
            output: gib(1),
            wall_seconds: Some(DAY / 2),
            idle_seconds: Some(2 * 60 * 60),
            require: Strength::Sampled,
        },
        Profile::Development => Limits {
            processes: Some(1024),
            memory: gib(8),
            file_size: gib(16),
            open_files: Some(65_536),
            cpu_seconds: None,
            disk: gib(32),
            output: gib(8),
            wall_seconds: Some(7 * DAY),
            idle_seconds: None,
            require: Strength::Sampled,
        },
        Profile::Minimal => Limits {
            processes: Some(4096),
            memory: gib(16),
            file_size: gib(64),
            open_files: Some(65_536),
            cpu_seconds: None,
            disk: gib(128),
            output: gib(16),
            wall_seconds: Some(30 * DAY),
            idle_seconds: None,
            require: Strength::Sampled,
        },
    }
}
