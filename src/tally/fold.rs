//! What becomes of the values that [`Names`](super::names::Names) lets go of.

use hashbrown::HashSet;

use super::boards::first;
use super::names::{IDS, MODELS, Sym};
use super::sums::BoardSums;
use super::{Dimensions, Tally};
use crate::model::Scope;

impl Dimensions {
    /// Whether the entity is kept apart.
    pub(super) fn has(&self, scope: Scope, sym: Sym) -> bool {
        match scope {
            Scope::User => self.users.value(sym).is_some(),
            Scope::Key => self.keys.value(sym).is_some(),
            Scope::Provider => self.providers.value(sym).is_some(),
            Scope::Model => self.models.value(sym).is_some(),
        }
    }

    fn is_full(&self, scope: Scope) -> bool {
        match scope {
            Scope::User => self.users.is_full(IDS),
            Scope::Key => self.keys.is_full(IDS),
            Scope::Provider => self.providers.is_full(IDS),
            Scope::Model => self.models.is_full(MODELS),
        }
    }

    fn fold(&mut self, scope: Scope, needed: &HashSet<Sym>) {
        match scope {
            Scope::User => self.users.fold(IDS, needed),
            Scope::Key => self.keys.fold(IDS, needed),
            Scope::Provider => self.providers.fold(IDS, needed),
            Scope::Model => self.models.fold(MODELS, needed),
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
        match scope {
            Scope::User => rows.filter_map(|row| names.users.find(&row.user_id)).collect(),
            Scope::Key => rows.filter_map(|row| names.keys.find(row.key_id.as_ref()?)).collect(),
            Scope::Provider => rows.filter_map(|row| names.providers.find(&row.provider_id)).collect(),
            Scope::Model => rows
                .flat_map(|row| [&row.model, &row.answered_model])
                .filter_map(|model| names.models.find(model.as_ref()?))
                .collect(),
        }
    }
}
