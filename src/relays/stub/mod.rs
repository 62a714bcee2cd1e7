//! The smallest relay there can be: a SQLite table of id, user, model, tokens, cost and time. Only test builds have it. It
//! shows what a relay's folder holds, and proves that nothing outside has to know of one.

mod demo;
mod ledger;
mod product;
mod tests;

pub(super) use product::PRODUCT;
