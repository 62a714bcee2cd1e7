//! Leaderboards: the first by cost, and `other`, so that the sum is the total.

use std::cmp::{Ordering, Reverse};

use hashbrown::HashMap;

use super::Dimensions;
use super::names::Sym;
use super::sums::{BoardSums, Spent, Sum, Sums};
use crate::model::{Directory, EntityId, Facts, Period, Scope};
use crate::view::{Board, BoardEntry, Boards};

/// Who stands on a board: those that the relay still has, with their names.
pub(crate) struct BoardNames<'a> {
    names: [HashMap<EntityId, &'a str>; 3],
    settings: &'a Boards,
}

impl<'a> BoardNames<'a> {
    pub(crate) fn new(directory: &'a Directory, settings: &'a Boards) -> Self {
        // Deleted entities leave the relay's boards, in the past too (Claude Code Hub v0.9.2, `leaderboard.ts`).
        let users =
            directory.users.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        let keys = directory.keys.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        let providers =
            directory.providers.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        Self { names: [users, keys, providers], settings }
    }

    /// `None` for who has left.
    pub(crate) fn name(&self, scope: Scope, id: &'a EntityId) -> Option<&'a str> {
        let names = match scope {
            Scope::User => &self.names[0],
            Scope::Key => &self.names[1],
            Scope::Provider => &self.names[2],
            Scope::Model => {
                return match id {
                    EntityId::Text(name) => Some(name),
                    EntityId::Number(_) => None,
                };
            }
        };
        names.get(id).copied()
    }

    /// Length of a leaderboard; 0 when it is switched off.
    pub(crate) fn size(&self, scope: Scope) -> usize {
        match scope {
            Scope::User => self.settings.top_users,
            Scope::Key => self.settings.top_keys,
            Scope::Provider => self.settings.top_providers,
            Scope::Model => self.settings.top_models,
        }
    }

    pub(crate) fn shown(&self, scope: Scope, id: &str, name: &str) -> String {
        self.settings.names.shown(scope, id, name)
    }
}

/// Entities of a board that keep numbers of their own when there are too many: twice the longest leaderboard.
const FIRST: usize = 2_000;

/// The first of a period by the order of its leaderboard, whether the relay still has them or not.
pub(super) fn first<'a>(
    dimensions: &'a Dimensions,
    scope: Scope,
    boards: &'a BoardSums,
) -> impl Iterator<Item = Sym> + use<'a> {
    let known = |(entity, spent)| {
        let (id, name) = match scope {
            Scope::User => (*dimensions.users.value(entity)?, ""),
            Scope::Key => (*dimensions.keys.value(entity)?, ""),
            Scope::Provider => (*dimensions.providers.value(entity)?, ""),
            Scope::Model => (0, dimensions.models.value(entity)?.as_ref()),
        };
        Some((spent, id, name, entity))
    };
    let mut ranked: Vec<_> = boards.spent(scope).filter_map(known).collect();
    rank(&mut ranked, FIRST);
    ranked.into_iter().map(|(.., entity)| entity)
}

/// An entity with what it is ranked by.
type Contender<'a> = (&'a Spent, i64, &'a str, Sym);

/// The first `size` by cost, in no order if there are more.
fn rank(ranked: &mut Vec<Contender<'_>>, size: usize) {
    if ranked.len() > size {
        ranked.select_nth_unstable_by(size, order);
        ranked.truncate(size);
    }
}

fn order((a, a_id, a_name, _): &Contender<'_>, (b, b_id, b_name, _): &Contender<'_>) -> Ordering {
    let key = (Reverse(a.cost), Reverse(a.requests), a_id, a_name);
    key.cmp(&(Reverse(b.cost), Reverse(b.requests), b_id, b_name))
}

pub(super) fn board<'a>(
    dimensions: &'a Dimensions,
    names: &'a BoardNames<'_>,
    scope: Scope,
    period: Period,
    boards: &'a BoardSums,
    facts: Facts,
) -> Board {
    // Rank on what costs nothing to copy; names are made for the few that stay.
    let mut ranked: Vec<Contender<'_>> = boards
        .spent(scope)
        .filter_map(|(entity, spent)| {
            let (id, name) = match scope {
                Scope::User => person(&names.names[0], *dimensions.users.value(entity)?)?,
                Scope::Key => person(&names.names[1], *dimensions.keys.value(entity)?)?,
                Scope::Provider => person(&names.names[2], *dimensions.providers.value(entity)?)?,
                Scope::Model => (0, dimensions.models.value(entity)?.as_ref()),
            };
            Some((spent, id, name, entity))
        })
        .collect();
    // Of many thousands only the first few are put in order.
    rank(&mut ranked, names.size(scope));
    ranked.sort_unstable_by(order);

    let mut other = boards.whole.spent.clone();
    let mut entries: Vec<BoardEntry> = ranked
        .into_iter()
        .map(|(spent, id, name, entity)| {
            other.unmerge(spent);
            let id = if scope == Scope::Model { name.to_owned() } else { id.to_string() };
            let sums = boards.sums(scope, entity);
            let speeds = sums.filter(|_| scope == Scope::Provider);
            BoardEntry {
                name: names.shown(scope, &id, name),
                success_ratio: spent.success_ratio().filter(|_| facts.errors),
                mean_ttft_seconds: speeds.and_then(Sums::mean_ttft_seconds),
                mean_output_tokens_per_second: speeds.and_then(Sums::mean_speed),
                cache_hit_ratio: spent.cache_hit_ratio(facts).filter(|_| facts.cache),
                ..entry(id, spent, facts)
            }
        })
        .collect();
    entries.push(BoardEntry { name: "other".to_owned(), ..entry("other".to_owned(), &other, facts) });
    Board { scope, period, entries, renewed_at: None }
}

fn person<'a>(names: &HashMap<EntityId, &'a str>, id: i64) -> Option<(i64, &'a str)> {
    names.get(&EntityId::Number(id)).map(|name| (id, *name))
}

fn entry(id: String, spent: &Spent, facts: Facts) -> BoardEntry {
    BoardEntry {
        id,
        cost_usd: facts.cost.then(|| spent.cost.to_f64()),
        requests: Some(spent.requests),
        tokens: facts.tokens.then_some(spent.board_tokens),
        ..BoardEntry::default()
    }
}
