//! The backend as a whole, with a runner, a gateway and a history service played by the tests.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod browser_rules;
mod fake_gateway;
mod fake_runner;
mod fake_setup;
mod health;
mod hostile_runner;
mod images;
mod login;
mod openapi;
mod operations;
mod ordering;
mod people;
mod relaying;
mod rest;
mod runner_client;
mod setup;
mod slow_client;
mod stop;
mod support;
mod terminals;
mod ui;
mod usage;
