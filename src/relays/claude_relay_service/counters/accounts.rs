//! Requests and tokens of accounts by model, one total for each month of the year.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{Datelike, Days};

use super::super::keys;
use super::super::reader::TOKEN_FIELDS;
use super::sweep::pair;
use super::{BEGINS, CounterReader, Directory, Pair, ReadError, Span, text};

impl CounterReader {
    /// Reads the accounts whose totals have moved, now or at the last look: the relay books totals and months one after
    /// the other.
    pub(super) async fn moved_accounts(&mut self, directory: &Directory, span: &Span) -> Result<(), ReadError> {
        self.begin_year(span);
        let listed = directory.providers.iter().map(|account| text(&account.id));
        let ids: BTreeSet<Arc<str>> = self.known.traffic.keys().map(|(id, _)| id.clone()).chain(listed).collect();
        let names = ids.iter().map(|id| format!("account_usage:{id}")).collect();
        let usage = self.reader.fields("reading totals of accounts", names, &["totalRequests"]).await?;
        let mut moved = BTreeSet::new();
        for (id, usage) in ids.iter().zip(usage) {
            let requests = usage.map_or(0, |usage| usage.count(0));
            if self.progress.accounts.insert(id.clone(), requests) != Some(requests) {
                moved.insert(id.clone());
            }
        }
        let before = std::mem::replace(&mut self.progress.moved_accounts, moved.clone());
        moved.extend(before);
        if moved.is_empty() {
            return Ok(());
        }
        let days = 0..=u64::from(span.is_early);
        let names =
            days.map(|ago| format!("account_usage:model:daily:index:{}", keys::day(span.today - Days::new(ago))));
        let sets = self.reader.sets("reading which accounts had traffic", names.collect()).await?;
        let pairs = sets.iter().flatten().filter_map(|member| pair(member));
        // One that is not listed is gone, and its last requests are booked.
        let pairs = pairs.filter(|(id, _)| moved.contains(id) || !ids.contains(id)).collect();
        self.account_totals(pairs, false, span).await
    }

    /// Last year's months are no longer counted.
    pub(super) fn begin_year(&mut self, span: &Span) {
        if self.known.year != span.year {
            let accounts = self.known.traffic.drain().map(|((account, _), _)| account);
            self.known.changed.extend(accounts);
            self.known.year = span.year;
            self.progress.accounts.clear();
        }
    }

    /// The months that may have changed; all of them when the `whole` is read.
    pub(super) async fn account_totals(
        &mut self,
        pairs: BTreeSet<Pair>,
        whole: bool,
        span: &Span,
    ) -> Result<(), ReadError> {
        let mut asked = Vec::new();
        for pair in pairs {
            let first = match self.known.traffic.contains_key(&pair) && !whole {
                // Past months stay as they are, but for what was under way at midnight.
                true if span.today.day() > 1 => span.last_month,
                true => span.last_month.saturating_sub(1).max(1),
                false => 1,
            };
            asked.extend((first..=span.last_month).map(|month| (pair.clone(), month)));
        }
        self.month_totals(asked, span.resetting).await
    }

    /// Totals of accounts by month of a year.
    pub(super) async fn month_totals(&mut self, asked: Vec<(Pair, u32)>, resetting: bool) -> Result<(), ReadError> {
        let year = self.known.year;
        let name = |((account, model), month): &(Pair, u32)| {
            format!("account_usage:model:monthly:{account}:{model}:{}", keys::month(year, *month))
        };
        let names = asked.iter().map(name).collect();
        let answers = self.reader.fields("reading totals of accounts by model", names, &TOKEN_FIELDS).await?;
        for ((pair, month), fields) in asked.into_iter().zip(answers) {
            let months = self.known.traffic.entry(pair.clone()).or_default();
            let known = months.contains_key(&month);
            let Some(fields) = fields.filter(|fields| !fields.is_empty() || resetting && known) else { continue };
            let totals = months.entry(month).or_default();
            let before = *totals;
            if totals.see(fields.count(0), fields.tokens(), resetting) && !resetting {
                tracing::info!(account = &*pair.0, model = &*pair.1, "{BEGINS}");
            }
            if before != *totals {
                self.known.changed.insert(pair.0);
            }
        }
        Ok(())
    }
}
