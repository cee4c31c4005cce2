//! Builds the image by hand: `cargo run -p lodge-image --example build -- STATE [INIT [DATA TREE…]]`; prints its
//! manifest.
#![allow(clippy::unwrap_used)]

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(std::path::PathBuf::from);
    let options = lodge_image::Options {
        state: arguments.next().unwrap(),
        init_binary: arguments.next(),
        data: arguments.next().unwrap_or_default(),
        trees: arguments.collect(),
        refresh: true,
        ..lodge_image::Options::default()
    };
    match lodge_image::build(&options, &mut |step| eprintln!("{step}")) {
        Ok(manifest) => println!("{}", serde_json::to_string_pretty(&manifest).unwrap()),
        Err(error) => panic!("{error}"),
    }
}
