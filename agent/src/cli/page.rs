//! `watchfire page`: where a browser finds the status page.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Failure, Format, print_json};
use crate::config::AgentConfig;
use crate::control::api;

/// Where an agent's configuration is unless told otherwise.
const CONFIG: &str = "/etc/watchfire/agent.toml";

#[derive(Args)]
#[command(
    after_help = "The agent serves the page at admin.listen. The address holds a key, made of \
                  the token in admin.token_file, that may read and change nothing; a new token \
                  ends it. Browsers send it to nobody but the agent.\n\n\
                  From another machine, with the same port at both ends:\n  \
                  ssh -L 9465:127.0.0.1:9465 SERVER\n\n\
                  Without admin.listen, as a user who may read the admin socket, with no key:\n  \
                  ssh -L 9465:/run/watchfire/admin.sock SERVER\n  \
                  and then http://localhost:9465/"
)]
pub(super) struct Options {
    /// The agent's configuration file [default: /etc/watchfire/agent.toml]
    #[arg(long, value_name = "FILE", default_value = CONFIG, hide_default_value = true)]
    config: PathBuf,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = AgentConfig::load(&options.config)?;
    let Some(tcp) = &config.admin_tcp else {
        return Err(Failure::Error(format!(
            "{}: the admin API is on no TCP address, where a browser could reach it\n  help: set \
             admin.listen = \"127.0.0.1:9465\" and admin.token_file, and start the agent anew; or \
             forward a port to the socket: ssh -L 9465:{} SERVER, and open http://localhost:9465/",
            options.config.display(),
            config.admin_socket.display()
        )));
    };
    let key = api::reader_key(&tcp.token_file)?;
    let url = format!("http://{}/#{key}", tcp.listen);
    if options.format.json {
        return print_json(&json!({ "url": url }));
    }
    say!("{url}");
    Ok(())
}
