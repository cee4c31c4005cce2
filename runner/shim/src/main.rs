//! The process `lodge-shim`; see the library.

fn main() -> std::process::ExitCode {
    lodge_shim::shim::setup::main()
}
