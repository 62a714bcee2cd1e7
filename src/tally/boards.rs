//! Leaderboards: the first by cost, and `other`, so that the sum is the total.

use std::cmp::{Ordering, Reverse};

use hashbrown::HashMap;

use super::Dimensions;
use super::names::{OTHER, Sym, other};
use super::sums::{BoardSums, Spent, Sum, Sums};
use crate::model::{Directory, EntityId, Facts, Period, Scope};
use crate::view::{Board, BoardEntry, Boards};

/// Who stands on a board: those that the relay still has, with their names.
pub(crate) struct BoardNames<'a> {
    /// By [`Scope::ALL`], but models.
    names: [HashMap<EntityId, &'a str>; 5],
    settings: &'a Boards,
}

impl<'a> BoardNames<'a> {
    pub(crate) fn new(directory: &'a Directory, settings: &'a Boards) -> Self {
        // Deleted entities leave the relay's boards, in the past too (Claude Code Hub v0.9.2, `leaderboard.ts`).
        let users =
            directory.users.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        let keys = directory.keys.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        let teams = directory.teams.iter().map(|it| (it.id.clone(), it.name.as_str())).collect();
        let organizations = directory.organizations.iter().map(|it| (it.id.clone(), it.name.as_str())).collect();
        let providers =
            directory.providers.iter().filter(|it| !it.deleted).map(|it| (it.id.clone(), it.name.as_str())).collect();
        Self { names: [users, keys, teams, organizations, providers], settings }
    }

    /// `None` for who has left, and for a model with the name of the rest.
    pub(crate) fn name(&self, scope: Scope, id: &'a EntityId) -> Option<&'a str> {
        match (self.names.get(scope as usize), id) {
            (Some(names), id) => names.get(id).copied(),
            (None, EntityId::Text(name)) => Some(&**name).filter(|name| *name != OTHER),
            (None, EntityId::Number(_)) => None,
        }
    }

    /// Length of a leaderboard; 0 when it is switched off.
    pub(crate) fn size(&self, scope: Scope) -> usize {
        match scope {
            Scope::User => self.settings.top_users,
            Scope::Key => self.settings.top_keys,
            Scope::Team | Scope::Organization => self.settings.top_teams,
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
    let known = |entity| match dimensions.ids(scope) {
        Some(ids) => Some((*ids.value(entity)?, "")),
        None => Some((0, dimensions.models.value(entity)?.as_ref())),
    };
    ranked(boards, scope, FIRST, known).into_iter().map(|(.., entity)| entity)
}

/// An entity with what it is ranked by.
type Contender<'a> = (&'a Spent, i64, &'a str, Sym);

/// The first `size` by cost of those whose id and name are `known`, in no order if there are more. Of many thousands
/// most are told apart from the first by their cost alone.
fn ranked<'a>(
    boards: &'a BoardSums,
    scope: Scope,
    size: usize,
    known: impl Fn(Sym) -> Option<(i64, &'a str)>,
) -> Vec<Contender<'a>> {
    let mut ranked = Vec::new();
    let mut least = None;
    for (entity, spent) in boards.spent(scope) {
        if least.is_some_and(|least| spent.cost < least) {
            continue;
        }
        ranked.extend(known(entity).map(|(id, name)| (spent, id, name, entity)));
        if ranked.len() > 2 * size {
            cut(&mut ranked, size);
            least = ranked.iter().map(|(spent, ..)| spent.cost).min();
        }
    }
    cut(&mut ranked, size);
    ranked
}

fn cut(ranked: &mut Vec<Contender<'_>>, size: usize) {
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
    let known = |entity| match dimensions.ids(scope) {
        Some(ids) => {
            let id = *ids.value(entity)?;
            Some((id, *names.names[scope as usize].get(&EntityId::Number(id))?))
        }
        None => Some((0, dimensions.model(entity)?)),
    };
    let mut ranked = ranked(boards, scope, names.size(scope), known);
    ranked.sort_unstable_by(order);

    let mut rest = boards.whole.spent.clone();
    let mut entries: Vec<BoardEntry> = ranked
        .into_iter()
        .map(|(spent, id, name, entity)| {
            rest.unmerge(spent);
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
    entries.push(BoardEntry { name: other(), ..entry(other(), &rest, facts) });
    Board { scope, period, entries, renewed_at: None }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usd;
    use crate::tally::sums::{Total, WindowFact};
    use proptest::prelude::*;

    fn spent_by(entity: Sym, cents: u8) -> WindowFact {
        let mut fact = WindowFact::bare(0);
        fact.cost = Usd::from_f64(f64::from(cents) / 100.0).unwrap();
        fact.entities[Scope::User as usize] = entity;
        fact
    }

    proptest! {
        #[test]
        fn the_first_are_those_of_a_whole_ranking(
            costs in prop::collection::vec(0..30_u8, 0..200),
            size in 0..6_usize,
        ) {
            let mut boards = BoardSums::default();
            (0..).zip(&costs).for_each(|(entity, cents)| boards.add(&spent_by(entity, *cents)));
            // Some have left the relay.
            let known = |entity: Sym| (!entity.is_multiple_of(5)).then_some((i64::from(entity), ""));
            let mut whole = ranked(&boards, Scope::User, usize::MAX / 2, known);
            whole.sort_unstable_by(order);
            let mut first = ranked(&boards, Scope::User, size, known);
            first.sort_unstable_by(order);
            let entities = |of: &[Contender<'_>]| of.iter().map(|(.., entity)| *entity).collect::<Vec<_>>();
            prop_assert_eq!(entities(&first), entities(&whole[..size.min(whole.len())]));
        }
    }
}
