//! Origins by name: the thread that asks for them, and what its answers make of checks.

mod book;
mod resolver;

pub(crate) use book::{Book, Judge, NameStatus, NamesStatus, address_of};
pub(crate) use resolver::{Resolver, once};
