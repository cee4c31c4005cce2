//! Compiles the gRPC definitions with `protox`, so that no `protoc` is needed on the machine.

/// Messages that hold a key in clear: `src/unprinted.rs` prints them without it.
const SECRET: [&str; 4] = [
    "SetProviderKeyRequest",
    "CreateKeyResponse",
    "LeaseGranted",
    "FinishLoginRequest",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/history.proto", "proto/control.proto"];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["proto"])?;
    tonic_prost_build::configure()
        .skip_debug(SECRET.map(|name| format!(".lodge.control.v1.{name}")))
        .compile_fds(descriptors)?;
    Ok(())
}
