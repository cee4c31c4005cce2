//! See the library.

fn main() -> anyhow::Result<()> {
    lodge_bench::cli::main()
}
