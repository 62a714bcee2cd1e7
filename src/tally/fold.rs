//! What becomes of the values that [`Names`] lets go of.

use hashbrown::HashSet;

use super::boards::first;
use super::names::{IDS, MODELS, Names, Sym};
use super::sums::{BoardSums, WindowFact};
use super::{Dimensions, Tally};
use crate::model::Scope;

impl Dimensions {
    /// Whether the entity is kept apart.
    pub(super) fn has(&self, scope: Scope, sym: Sym) -> bool {
        match self.ids(scope) {
            Some(ids) => ids.value(sym).is_some(),
            None => self.models.value(sym).is_some(),
        }
    }

    /// The names of a scope whose entities have ids; `None` of models.
    pub(super) fn ids(&self, scope: Scope) -> Option<&Names<i64>> {
        self.ids.get(scope as usize)
    }

    /// The row `id`, whose fact this is, admits its entities of some scopes.
    pub(super) fn admit(&mut self, scopes: &[Scope], fact: &WindowFact, id: i64) {
        for scope in scopes {
            if let Some(ids) = self.ids.get_mut(*scope as usize) {
                ids.admit(fact.entity(*scope), id);
            }
        }
    }

    fn is_full(&self, scope: Scope) -> bool {
        match self.ids(scope) {
            Some(ids) => ids.is_full(IDS),
            None => self.models.is_full(MODELS),
        }
    }

    fn fold(&mut self, scope: Scope, needed: &HashSet<Sym>) {
        match self.ids.get_mut(scope as usize) {
            Some(ids) => ids.fold(IDS, needed),
            None => self.models.fold(MODELS, needed),
        }
    }
}

impl Tally {
    /// Lets go of names when there are too many. Those of rows that may still change stay: their rows are taken out of
    /// the sums again under the same number.
    pub(super) fn fold_full(&mut self) {
        for scope in Scope::ALL {
            if self.names.is_full(scope) {
                let mut needed = self.held_names(scope);
                let none = BoardSums::default();
                let today = self.days.ready(self.today()).unwrap_or(&none);
                for boards in [today, &self.windows.day.total, &self.week.boards, &self.month.boards, &self.total] {
                    needed.extend(first(&self.names, scope, boards));
                }
                self.fold(scope, &needed);
            }
        }
    }

    /// Takes what is not `needed` out of everything that tells entities of a scope apart.
    pub(super) fn fold(&mut self, scope: Scope, needed: &HashSet<Sym>) {
        self.names.fold(scope, needed);
        let names = &self.names;
        for boards in [&mut self.windows.day.total, &mut self.week.boards, &mut self.month.boards, &mut self.total] {
            boards.retain(scope, |sym| names.has(scope, sym));
        }
        self.windows.key_models.total.retain(scope, |sym| names.has(scope, sym));
        for day in self.days.all_ready() {
            day.retain(scope, |sym| names.has(scope, sym));
        }
        self.counters.fold(|scope, sym| names.has(scope, sym));
        self.early_models.retain(|sym| names.has(Scope::Model, *sym));
    }

    fn held_names(&self, scope: Scope) -> HashSet<Sym> {
        let names = &self.names;
        let rows = self.held.values().map(|held| &held.row);
        match names.ids(scope) {
            Some(ids) => rows.filter_map(|row| ids.find(&row.id_of(scope)?)).collect(),
            None => rows
                .flat_map(|row| [&row.model, &row.answered_model])
                .filter_map(|model| names.models.find(model.as_ref()?))
                .collect(),
        }
    }
}
