//! Whose a check is.

use watchfire_wire::CheckId;

/// Who shares places and allowances with others: the tenant that a check
/// belongs to, by a number made of its name.
///
/// The number is cut from a cryptographic hash, so that nobody can choose a name
/// to share another's part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(u64);

impl Tenant {
    /// What belongs to nobody in particular.
    pub const NOBODY: Self = Self(0);

    /// The tenant of that name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(CheckId::of_canonical(name.as_bytes()).prefix())
    }
}
