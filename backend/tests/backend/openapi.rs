//! The API's description is a file of the documentation, and true.

use crate::support::Backend;
use lodge_backend::rest::openapi::document;
use std::path::Path;

#[tokio::test]
async fn the_description_is_up_to_date() {
    let written = document().to_pretty_json().unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == written,
        "docs/openapi.json differs; run `UPDATE=1 cargo test -p lodge-backend openapi`"
    );
}

#[tokio::test]
async fn every_described_path_exists() {
    let backend = Backend::start().await;
    let served = backend.get("/api/v1/openapi.json", "").await.json();
    let paths = served["paths"].as_object().unwrap();
    assert!(paths.len() >= 18, "{}", paths.len());
    for (path, operations) in paths {
        let path = path
            .replace("{id}", crate::support::SESSION)
            .replace("{name}", "demo")
            .replace("{scope}", "user:ann")
            .replace("{window}", "day")
            .replace("{account}", "default");
        for method in operations
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| key.as_str() != "parameters")
        {
            let method = method.to_uppercase().parse().unwrap();
            let answer = backend.call(method, &path, "", None).await;
            let missing = ["not_found", "invalid_argument"].contains(&answer.error_code().as_str());
            assert!(!missing || path == "/api/v1/login", "{path}: {:?}", answer.body);
        }
    }
}
