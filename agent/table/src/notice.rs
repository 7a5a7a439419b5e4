//! What befell the table's file and the writer saw to itself: for the agent's
//! log. It changes nothing; the writer acts, a notice only tells.

use core::fmt;
use std::path::PathBuf;

use crate::error::TableError;

/// Something that an operator should know of a table that goes on working.
/// Its words are one line of a log, but for an error's help.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// What was there when the writer came was a damaged table. It was set
    /// aside and a new one made, so that what it said is lost.
    SetAside {
        /// The table's file.
        path: PathBuf,
        /// Where the damaged one lies now. An earlier one there was replaced.
        aside: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// What was there was a sound table of the layout before this one; what it
    /// says was moved to a new file. Readers of the former layout stay on the
    /// old one, which goes stale.
    TakenOver {
        /// The table's file.
        path: PathBuf,
    },
    /// The path named no file any more, or not the writer's; the writer put a
    /// new file there with everything that the table says.
    Restored {
        /// The table's file.
        path: PathBuf,
    },
    /// The same, but the writer could not put a file there. It goes on trying,
    /// and tells again only when it fails for another reason. Readers that are
    /// on the old file stay served; others find no table, or another's.
    NotRestored {
        /// Why not.
        error: TableError,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetAside { path, aside, what } => write!(
                f,
                "{} was damaged: {what}; it was set aside as {}, which nobody needs but to look into the cause, and a new table was made",
                path.display(),
                aside.display()
            ),
            Self::TakenOver { path } => write!(
                f,
                "{} was of a former layout and moved to a new file with everything it said; proxies that still run the former library keep its last verdicts until they load the new one",
                path.display()
            ),
            Self::Restored { path } => write!(
                f,
                "somebody removed or replaced {}; it is there again, with everything it said",
                path.display()
            ),
            Self::NotRestored { error } => write!(
                f,
                "somebody removed or replaced the table's file or folder, and new readers cannot be served until it is back: {error}"
            ),
        }
    }
}
