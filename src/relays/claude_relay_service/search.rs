//! Keys and accounts found by `SCAN`, for releases without index sets. Only where the configuration allows it.

use std::collections::BTreeSet;
use std::mem;

use super::keys::{PLATFORMS, Platform};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::ReadError;

/// What is looked for, one after the other. The server matches names: those of the administrators' sessions stay there.
const PATTERNS: [&str; 2] = ["apikey:*-*", "*account:*"];
/// Names that one `SCAN` looks at: about a millisecond of the server's time.
const AT_ONCE: &str = "500";
/// `SCAN`s of one refresh; the next one goes on where it stopped.
const MOST: usize = 20;

/// A search that goes through the key space again and again.
pub(super) struct Search {
    pattern: usize,
    cursor: u64,
    /// In this pass.
    finds: Finds,
    /// In the last whole pass.
    found: Finds,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Finds {
    keys: BTreeSet<String>,
    /// Each with its platform's place in [`PLATFORMS`].
    accounts: BTreeSet<(usize, String)>,
}

impl Search {
    pub(super) fn new() -> Self {
        Self { pattern: 0, cursor: 0, finds: Finds::default(), found: Finds::default() }
    }

    /// A bounded piece of the search.
    pub(super) async fn go_on(&mut self, redis: &mut Redis) -> Result<(), ReadError> {
        for _ in 0..MOST {
            let request = KeyCommand::new("SCAN", self.cursor.to_string());
            let request = request.with(&["MATCH", PATTERNS[self.pattern], "COUNT", AT_ONCE]);
            let answer = redis.each::<(u64, Vec<Vec<u8>>)>("searching for keys", &[request]).await?;
            let Some((cursor, names)) = answer.into_iter().flatten().next() else { return Ok(()) };
            names.iter().filter_map(|name| std::str::from_utf8(name).ok()).for_each(|name| self.finds.add(name));
            self.cursor = cursor;
            if cursor == 0 {
                self.pattern = (self.pattern + 1) % PATTERNS.len();
                if self.pattern == 0 {
                    self.found = mem::take(&mut self.finds);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.found.keys.union(&self.finds.keys)
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = (&'static Platform, &String)> {
        self.found.accounts.union(&self.finds.accounts).map(|(platform, id)| (&PLATFORMS[*platform], id))
    }
}

impl Finds {
    fn add(&mut self, name: &str) {
        // Indexes and helpers have one part more, or are called so.
        let id = |prefix: &str| name.strip_prefix(prefix).filter(|id| !id.contains(':') && *id != "index");
        if let Some(id) = id("apikey:") {
            self.keys.insert(id.to_owned());
        }
        let platforms = PLATFORMS.iter().enumerate();
        let account = platforms.filter_map(|(n, platform)| Some((n, id(platform.account)?.to_owned()))).next();
        self.accounts.extend(account);
    }
}
