//! Counters that cannot be forgotten: what a group counts is named and explained for
//! metrics by its definition alone.

/// One counter, as metrics and `status --json` show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its stable name, without the program's and without `_total`.
    pub name: &'static str,
    /// What it counts, in one sentence.
    pub help: &'static str,
    /// The count since the start.
    pub count: u64,
    /// For one of several that count the same by a label: the family's name, the
    /// label and its value.
    pub family: Option<Family>,
}

/// Where a counter stands among those that count the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The name of all of them.
    pub name: &'static str,
    /// What tells them apart.
    pub label: &'static str,
    /// This one's.
    pub value: &'static str,
}

impl Counter {
    /// A counter by itself.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, count: u64) -> Self {
        Self {
            name,
            help,
            count,
            family: None,
        }
    }
}

/// Defines a group of counters: a struct of numbers, whose comments are the
/// metrics' help, and [`Counter`]s of all of them. A field is named by itself
/// behind the group's prefix, unless it says otherwise.
macro_rules! counters {
    (
        $(#[doc = $about:literal])*
        pub struct $group:ident as $prefix:literal {
            $( $(#[doc = $help:literal])+ pub $field:ident: u64 $(as $name:literal)?, )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $group {
            $( $(#[doc = $help])+ pub $field: u64, )*
        }

        impl $group {
            /// Every one of them.
            pub fn each(&self) -> impl Iterator<Item = $crate::counters::Counter> {
                [$( $crate::counters::Counter::new(
                    $crate::counters::counters!(@name $prefix $field $($name)?),
                    concat!($($help),+),
                    self.$field,
                ) ),*]
                .into_iter()
            }
        }
    };
    (@name $prefix:literal $field:ident) => { concat!($prefix, stringify!($field)) };
    (@name $prefix:literal $field:ident $name:literal) => { $name };
}
pub(crate) use counters;
