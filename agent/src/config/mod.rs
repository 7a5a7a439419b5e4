//! The configuration: what the operator wrote, parsed into what the agent
//! runs on, with every mistake named by file, line and way out.
//!
//! Parsing reads files, and tries which ways out of this host there are; it
//! sends nothing, and a configuration that was refused has changed nothing.

mod admin;
mod agent;
mod brake;
mod cost;
mod duration;
mod keys;
mod observe;
mod origins;
mod quota;
mod resolver;
mod skipped;
mod source;

pub(crate) use agent::{AgentConfig, TABLE};
pub(crate) use agent::{USER_AGENT, USER_AGENT_OF_NODE, user_agent};
pub(crate) use cost::Cost;
pub(crate) use observe::{Chosen, Events};
pub(crate) use origins::{FileOrigins, OriginDefaults, OriginSet, expand, merge, parse, refusal};
pub(crate) use quota::{Quotas, Usage};
pub(crate) use resolver::ResolverConfig;
pub(crate) use skipped::{Skipped, line as skipped_line};
pub(crate) use source::{ConfigError, ConfigErrors, Source};
