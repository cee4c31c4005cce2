//! What the page of a browser does, over HTTP, for tests of what passes between it and the rest.

use super::Up;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// A page that is logged in.
pub struct Page {
    address: String,
    cookie: String,
}

impl Page {
    /// Logs in with the link of `lodge up`.
    pub fn login(up: &Up) -> Self {
        let mut page = Self {
            address: up.address(),
            cookie: String::new(),
        };
        let token = up.url.split_once("#token=").unwrap().1;
        let (head, _) = page.send("POST", "/api/v1/login", &json!({ "token": token }));
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = cookie.unwrap_or_else(|| panic!("no cookie: {head}"));
        cookie.split(';').next().unwrap().clone_into(&mut page.cookie);
        page
    }

    /// The head and the body of the answer, on a connection of its own.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> (String, Value) {
        let (address, cookie, body) = (&self.address, &self.cookie, body.to_string());
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\ncookie: {cookie}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
    }

    /// Enters a key as the settings do: sealed for the gateway.
    pub fn enter_key(&self, name: &str, key: &str, base_url: &str) {
        let kind = "openai_compatible";
        let (head, begun) = self.send("POST", "/api/v1/key-exchange", &json!({}));
        let point = begun["public_key"].as_str().unwrap_or_else(|| panic!("{head}"));
        let peer = UnparsedPublicKey::new(&ECDH_P256, STANDARD.decode(point).unwrap());
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let public = own.compute_public_key().unwrap();
        let derived = agree_ephemeral(own, &peer, |shared| {
            let okm = Salt::new(HKDF_SHA256, &[]).extract(shared);
            let okm = okm.expand(&[b"lodge provider key v1"], &AES_256_GCM).unwrap();
            LessSafeKey::new(UnboundKey::from(okm))
        })
        .unwrap();
        let mut sealed = key.as_bytes().to_vec();
        let context = format!("{name}\n{kind}\n{base_url}");
        derived
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key([0; 12]),
                Aad::from(context.as_bytes()),
                &mut sealed,
            )
            .unwrap();
        let body = json!({
            "kind": kind, "base_url": base_url,
            "sealed": {
                "exchange": begun["exchange"], "public_key": STANDARD.encode(public.as_ref()),
                "sealed": STANDARD.encode(&sealed),
            },
        });
        let (head, answer) = self.send("PUT", &format!("/api/v1/providers/{name}/key"), &body);
        assert_eq!(answer["has_key"], true, "{head} {answer}");
    }
}
