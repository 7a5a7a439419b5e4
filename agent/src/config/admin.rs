//! Where a running agent may be asked: the `[admin]` part of its file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::source::{ConfigError, Source};

/// The admin API over TCP.
#[derive(Clone, Debug)]
pub(crate) struct AdminTcp {
    /// An address of the loopback: tokens travel in the clear.
    pub(crate) listen: SocketAddr,
    /// What whoever asks has to know.
    pub(crate) token_file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) socket: Option<PathBuf>,
    pub(super) group: Option<String>,
    listen: Option<Spanned<String>>,
    token_file: Option<PathBuf>,
}

impl RawAdmin {
    /// Where it listens on TCP, if anywhere.
    pub(super) fn tcp(
        &self,
        source: &Source,
        base: &Path,
        address: impl Fn(&Source, &Spanned<String>) -> Result<SocketAddr, ConfigError>,
    ) -> Result<Option<AdminTcp>, ConfigError> {
        let Some(text) = &self.listen else {
            return Ok(None);
        };
        let listen = address(source, text)?;
        if !listen.ip().is_loopback() {
            return Err(source.error(
                text.span(),
                format!("admin.listen = {listen} is no address of the loopback"),
                "the token would travel in the clear; listen on 127.0.0.1 behind a proxy with TLS",
            ));
        }
        let Some(token_file) = &self.token_file else {
            return Err(source.error(
                text.span(),
                "admin.listen without a token_file",
                "make one, (umask 077; openssl rand -hex 32 > FILE), and name it",
            ));
        };
        Ok(Some(AdminTcp {
            listen,
            token_file: base.join(token_file),
        }))
    }
}
