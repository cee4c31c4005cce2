# `just` lists the recipes. Without just installed: PATH="$(scripts/install-tool just | tail -n 1):$PATH"

_default:
    @just --list

# Build and start Lodge; the options are those of `lodge up`.
up *options:
    scripts/up {{options}}

# Start Lodge from a development build, with the browser UI as it was built last.
dev *options:
    PROFILE=dev scripts/build-guest
    cargo build --workspace --bins
    target/debug/lodge up {{options}}

# The browser UI alone, with reload on change, against a running Lodge (LODGE_BACKEND names another one).
dev-ui:
    cd frontend && npm run dev

# Every check and every test, or only the named stages.
test *stages:
    scripts/test {{stages}}

# Kill the runner again and again while ten sessions work: prints what was lost and doubled.
soak kills="200":
    PROFILE=dev scripts/build-guest
    cargo build --quiet -p lodge-shim -p lodge-fake-pi
    LODGE_KILLS={{kills}} cargo test --quiet -p lodge-runner --test kills -- --nocapture

# Kill the gateway in the middle of streams, again and again: the ledger against the provider's own count.
gateway-kills kills="300":
    LODGE_KILLS={{kills}} cargo test --quiet -p lodge-gateway --test kill

# Leave requests in the middle: how long until the provider's side of them has ended.
gateway-abort times="300":
    LODGE_ABORTS={{times}} cargo test --quiet -p lodge-gateway --test abort

# Every case of the conformance suite for every harness, the long ones too; writes docs/src/harness-faults.md.
harness-long *options:
    scripts/harness-faults {{options}}

# The escape probes in every tier and in the sandboxes of others; writes docs/src/security/probes.md.
probe-table *options:
    scripts/probe-table {{options}}

# Format check, clippy, licences and advisories.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    PATH="$(scripts/install-tool cargo-deny | tail -n 1):$PATH" cargo deny check
    cd frontend && npm run --silent typecheck && npm run --silent lint

# Format all sources.
fmt:
    cargo fmt --all
    cd fuzz && cargo fmt

# Build the guest image twice and compare every byte.
image-twice:
    scripts/image-twice

# Lodge beside a plain relay and its peers; writes benches/RESULTS.md.
bench *options:
    benches/run {{options}}

# Lodge's sandboxes beside bwrap alone, codex, sandbox-runtime and Docker; writes benches/SANDBOX.md.
bench-sandbox *options:
    benches/sandbox {{options}}

# Lodge's gateway beside a plain proxy, nginx, Portkey and LiteLLM; writes benches/GATEWAY.md.
bench-gateway *options:
    benches/gateway {{options}}

# What each harness costs behind Lodge: translation, memory, first delta; writes benches/HARNESSES.md.
bench-harnesses *options:
    benches/harnesses {{options}}

# Fuzz every parser that reads what a guest says, each that many seconds; fails on a finding.
fuzz seconds="600" *options:
    scripts/fuzz --seconds {{seconds}} {{options}}

# Write frontend/src/protocol/generated.ts from the Rust types.
gen-types:
    LODGE_UPDATE=1 cargo test --quiet -p lodge-proto --test typescript

# The book in docs/ as HTML.
docs:
    PATH="$(scripts/install-tool mdbook | tail -n 1):$PATH" mdbook build docs
