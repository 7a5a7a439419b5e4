//! Whole POPs of memberships, stepped in virtual time.

mod hostile;
mod life;
mod mass;
mod network;
mod properties;
#[cfg(feature = "mutations")]
mod seeded;
mod slow;
mod world;
