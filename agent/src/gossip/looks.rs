//! Looks of every member at an origin, for whoever asked: each is answered once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;
use watchfire_core::look::Said;
use watchfire_core::node::Node;
use watchfire_wire::message::replica::Sight;
use watchfire_wire::{NodeId, Reason, Unmeasured};

use super::act::{name_of, reason_key, reason_words};
use super::turn::Shell;
use crate::clock;

/// What one member saw.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct Seen {
    /// Its name.
    pub(crate) member: String,
    /// `pass`, `fail` or `not_measured`; nothing if it did not answer in time.
    pub(crate) outcome: Option<String>,
    /// The reason's stable name.
    pub(crate) reason: Option<String>,
    /// What became of it, in words.
    pub(crate) because: String,
    /// The response's status, if one came.
    pub(crate) status: Option<u16>,
    /// It passed, and showed a sign of trouble all the same.
    pub(crate) degraded: bool,
    /// From the probe's start on, microseconds.
    pub(crate) connect_us: Option<u32>,
    /// The same.
    pub(crate) tls_us: Option<u32>,
    /// The same.
    pub(crate) first_byte_us: Option<u32>,
    /// The same.
    pub(crate) total_us: Option<u32>,
    /// Its word is the one that counts for the POP.
    pub(crate) decides: bool,
}

/// Whom an answer goes to.
pub(crate) type Reply = oneshot::Sender<Result<Vec<Seen>, String>>;

/// Those that are not over: as many as the core allows.
#[derive(Default)]
pub(super) struct Looking(HashMap<u64, (Reply, Option<NodeId>)>);

impl Looking {
    /// Lets every member look at this origin's check.
    pub(super) fn begin(&mut self, name: &str, reply: Reply, shell: &mut Shell) {
        let begun = shell.host.catalogue().check_of(name).map(|check| {
            let owner = shell.host.node().winner(check).map(|winner| winner.owner);
            let begun = shell.host.look(clock::now(), check);
            begun
                .map(|look| (look, owner))
                .map_err(|why| why.to_string())
        });
        // Whoever asked may be gone; then nobody reads the answer.
        match begun {
            Some(Ok((look, owner))) => drop(self.0.insert(look, (reply, owner))),
            Some(Err(why)) => drop(reply.send(Err(why))),
            None => drop(reply.send(Err(format!(
                "no origin is named \"{name}\" in this agent's configuration"
            )))),
        }
    }

    /// A look is over.
    pub(super) fn over(&mut self, look: u64, said: &Said, node: &Node) {
        let Some((reply, owner)) = self.0.remove(&look) else {
            return;
        };
        let mut seen: Vec<_> = said
            .iter()
            .map(|&(id, sight)| Seen {
                decides: owner == Some(id),
                ..of(name_of(node, id), sight)
            })
            .collect();
        seen.sort_by(|a, b| a.member.cmp(&b.member));
        drop(reply.send(Ok(seen)));
    }
}

fn of(member: String, sight: Option<Sight>) -> Seen {
    let outcome = sight.map(|sight| match Reason::from_code(sight.code) {
        Some(Reason::Passed) => "pass",
        Some(_) => "fail",
        None => "not_measured",
    });
    let because = match sight {
        None => "no answer in time: its agent is stopped, cut off, or too old to know the question",
        Some(Sight { code, .. }) if code == Unmeasured::NotYet.code() => {
            "it does not probe this check: not configured there, refused there, or it cannot measure"
        }
        Some(sight) => reason_words(sight.code),
    };
    Seen {
        member,
        outcome: outcome.map(str::to_owned),
        reason: sight.map(|sight| reason_key(sight.code).to_owned()),
        because: because.to_owned(),
        status: sight.map(|sight| sight.status).filter(|status| *status > 0),
        degraded: sight.is_some_and(|sight| sight.degraded),
        connect_us: sight.and_then(|sight| sight.connect_us),
        tls_us: sight.and_then(|sight| sight.tls_us),
        first_byte_us: sight.and_then(|sight| sight.first_byte_us),
        total_us: sight.map(|sight| sight.total_us).filter(|us| *us > 0),
        decides: false,
    }
}
