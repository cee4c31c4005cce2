//! Builds the kernel part alone: `cargo run -p lodge-image --example kernel -- INIT OUT` with apt's own sources.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use lodge_image::kernel::{self, KernelRequest};
use lodge_image::sources;

fn main() {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [init, out] = arguments.as_slice() else {
        panic!("INIT OUT");
    };
    let work = out.join("work");
    std::fs::create_dir_all(&work).unwrap();
    let apt = work.join("lodge.sources");
    std::fs::write(&apt, sources::write(&sources::find("bookworm", None).unwrap())).unwrap();
    let built = kernel::build(&KernelRequest {
        init_binary: init,
        apt_sources: &apt,
        work: &work,
        out,
        epoch: 0,
    });
    match built {
        Ok(kernel) => println!("{}", serde_json::to_string_pretty(&kernel).unwrap()),
        Err(error) => panic!("{error}"),
    }
    std::fs::remove_dir_all(work).unwrap();
}
