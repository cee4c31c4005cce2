//! The `lodge` and `lodgectl` commands.
//!
//! - [`args`]: the command line of `lodge`; [`admin`]: of `lodgectl`
//! - [`commands`]: one module per subcommand
//! - [`supervise`]: starts the roles, watches them, stops them
//! - [`attach`]: finds a running Lodge by its data directory, or starts one for the call
//! - [`client`]: the conversation with a runner
//! - [`data`]: where things are in a data directory
//! - [`config`]: the file `config/lodge.toml`
//! - [`failure`]: errors as a person reads them, and exit statuses
//! - [`terminal`]: text of agents made safe, turns as text
//! - [`signals`]: how it is asked to stop
//! - [`roles`]: what runs behind the hidden role subcommands

pub mod admin;
mod admin_accounts;
pub mod args;
pub mod attach;
pub mod client;
pub mod commands;
pub mod config;
pub mod data;
pub mod failure;
pub mod http;
pub mod roles;
pub mod signals;
pub mod supervise;
pub mod table;
pub mod terminal;
