//! Ids that are given out again, as positions that are not.
//!
//! In SQLite, gemini-balance's table has no AUTOINCREMENT: when its newest rows are deleted, the next ones get their ids
//! (v2.2.8 `app/database/models.py`; verified: 307 rows, all deleted, next id 1). `TRUNCATE` does the same in MySQL, and a
//! file that is begun anew or restored from a backup does it with any table. A position is an id until that happens; from
//! then on it goes on counting where it was, so that new rows are new. That it has happened shows in the newest row that
//! was read: it is gone, or another one. A standby that lags does not have that row yet; it has none that is later either.

use std::collections::{HashMap, VecDeque};

use futures_util::future::BoxFuture;

use crate::model::{ReadError, Reason};

/// Newest rows that are remembered, to find out how far back rows have been deleted.
const REMEMBERED: usize = 2000;

/// How many of them a bookmark holds: more than anybody deletes by hand.
const WRITTEN: usize = 200;

/// What tells a row from another with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowIdentity {
    pub id: i64,
    pub at: Option<i64>,
    pub key: Option<i64>,
}

/// What tells the rows that a store still has.
pub(crate) type Identities<'a> = BoxFuture<'a, Result<Vec<RowIdentity>, ReadError>>;

/// From ids to positions and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StableIds {
    /// Where a run of positions begins, and at which id; both ascending. An id belongs to the last run that begins at or
    /// below it, and a position that no id leads to is of a row that is gone.
    runs: Vec<(i64, i64)>,
    /// The greatest position given out.
    top: i64,
    /// The newest rows that were read, by id.
    newest: VecDeque<RowIdentity>,
    /// Id and time of the oldest row at the last look.
    oldest: Option<(i64, i64)>,
}

impl Default for StableIds {
    fn default() -> Self {
        Self { runs: vec![(0, 0)], top: 0, newest: VecDeque::new(), oldest: None }
    }
}

impl StableIds {
    /// The position of a row.
    pub(crate) fn of(&self, id: i64) -> i64 {
        let (position, first) = self.runs[self.runs.partition_point(|run| run.1 <= id).saturating_sub(1)];
        id - first + position
    }

    /// The id at a position; `None` when its row is gone.
    pub(crate) fn id(&self, position: i64) -> Option<i64> {
        let id = self.id_up_to(position);
        (self.of(id) == position).then_some(id)
    }

    /// The greatest id of which the position is not above this one.
    pub(crate) fn id_up_to(&self, position: i64) -> i64 {
        let next = self.runs.partition_point(|run| run.0 <= position);
        let (start, first) = self.runs[next.saturating_sub(1)];
        let id = position.saturating_sub(start).saturating_add(first);
        self.runs.get(next).map_or(id, |run| id.min(run.1 - 1))
    }

    /// The greatest position so far, when `id` is the greatest id.
    pub(crate) fn top(&mut self, id: i64) -> i64 {
        self.top = self.top.max(self.of(id));
        self.top
    }

    /// The newest row that was read.
    pub(crate) fn identity(&self) -> Option<RowIdentity> {
        self.newest.back().copied()
    }

    /// Whether rows have been deleted that had been read, and were not the oldest; new ones may have their ids. `log` names
    /// the rows for people, `oldest` is the id and time of the oldest that is there, `top` the greatest id, and `read`
    /// reads what tells the rows of a range of ids, both ends included. `latest` is the time of the store's newest row,
    /// where the store may be a standby.
    ///
    /// # Errors
    /// Those of reading, and that the newest row may yet come: nothing of this look holds then.
    pub(crate) async fn notice_lost<S>(
        &mut self,
        log: &str,
        oldest: Option<(i64, i64)>,
        top: i64,
        latest: Option<i64>,
        session: &mut S,
        read: for<'a> fn(&'a mut S, i64, i64) -> Identities<'a>,
    ) -> Result<bool, ReadError> {
        let was_oldest = self.oldest;
        let may_survive = self.oldest_is(oldest);
        let (Some(first), Some(newest)) = (self.newest.front().copied(), self.identity()) else { return Ok(false) };
        if read(session, newest.id, newest.id).await?.contains(&newest) {
            return Ok(false);
        }
        let is_later = |latest| self.newest.iter().all(|row| row.at < Some(latest));
        if may_survive && top < newest.id && latest.is_some_and(|latest| !is_later(latest)) {
            self.oldest = was_oldest;
            let text = format!(
                "row {} of {log} had been read and is not there, nor is any later one: a standby that lags, or the \
                 newest rows were deleted; reading goes on at the next row",
                newest.id
            );
            return Err(ReadError::new(Reason::Data, text));
        }
        let present = read(session, first.id, newest.id).await?;
        let survivor = self.lose(&present, may_survive, top);
        tracing::warn!(
            newest = newest.id,
            survivor,
            top,
            "the newest rows of {log} were deleted; rows above the survivor count as new"
        );
        Ok(true)
    }

    /// Notes the oldest row; says whether it can still be of the rows that were there at the last look. A clean-up leaves
    /// a later one, an emptied table begins with an earlier or another one.
    fn oldest_is(&mut self, oldest: Option<(i64, i64)>) -> bool {
        let last = std::mem::replace(&mut self.oldest, oldest);
        match (last, oldest) {
            (Some(last), Some(now)) => now.0 > last.0 || now == last,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }

    /// Notes rows that were read.
    pub(crate) fn remember(&mut self, rows: impl IntoIterator<Item = RowIdentity>) {
        let newest = self.identity().map_or(i64::MIN, |identity| identity.id);
        let mut identities: Vec<RowIdentity> = rows.into_iter().filter(|identity| identity.id > newest).collect();
        identities.sort_unstable_by_key(|identity| identity.id);
        self.newest.extend(identities);
        let over = self.newest.len().saturating_sub(REMEMBERED);
        self.newest.drain(..over);
    }

    /// Rows that had been read are gone: of those that are remembered, `present` are left. What is above the last of them
    /// is new; where none is left, what is above the rows before them, if those `may_survive` below the greatest id `top`.
    /// Returns that last id.
    fn lose(&mut self, present: &[RowIdentity], may_survive: bool, top: i64) -> i64 {
        let survivor = match (self.last_survivor(present), self.newest.front()) {
            (Some(id), _) => id,
            (None, Some(first)) if may_survive => (first.id - 1).min(top),
            (None, _) => 0,
        };
        self.begin_anew_after(survivor);
        survivor
    }

    /// Of the remembered rows, the greatest id that `present` still has.
    fn last_survivor(&self, present: &[RowIdentity]) -> Option<i64> {
        let present: HashMap<i64, RowIdentity> = present.iter().map(|identity| (identity.id, *identity)).collect();
        self.newest
            .iter()
            .rev()
            .find(|identity| present.get(&identity.id) == Some(identity))
            .map(|identity| identity.id)
    }

    /// All rows above the id `survivor` have been deleted; what is there now is new.
    fn begin_anew_after(&mut self, survivor: i64) {
        self.runs.retain(|run| run.1 <= survivor);
        if self.runs.is_empty() {
            self.runs.push((0, 0));
        }
        self.runs.push((self.top + 1, survivor + 1));
        self.newest.retain(|identity| identity.id <= survivor);
    }

    /// What a later process needs to go on.
    pub(crate) fn resume_token(&self) -> String {
        let runs: Vec<String> = self.runs.iter().map(|(position, id)| format!("{position}:{id}")).collect();
        let absent = |value: Option<i64>| value.map_or_else(String::new, |value| value.to_string());
        let newest = self.newest.iter().skip(self.newest.len().saturating_sub(WRITTEN));
        let newest: Vec<String> = newest
            .map(|identity| format!("{}:{}:{}", identity.id, absent(identity.at), absent(identity.key)))
            .collect();
        let oldest = self.oldest.map(|(id, at)| format!("{id}:{at}"));
        format!("{};{};{};{}", self.top, runs.join(","), newest.join(","), oldest.unwrap_or_default())
    }

    /// Goes on from a bookmark; `None` when it is none.
    pub(crate) fn restore(resume_token: &str) -> Option<Self> {
        let mut parts = resume_token.split(';');
        let top = parts.next()?.parse().ok()?;
        let runs = parts.next()?.split(',').map(|run| {
            let (position, id) = run.split_once(':')?;
            Some((position.parse().ok()?, id.parse().ok()?))
        });
        let runs = runs.collect::<Option<Vec<(i64, i64)>>>()?;
        let identities = parts.next().unwrap_or_default().split(',').filter(|identity| !identity.is_empty());
        let newest = identities.map(|identity| {
            let mut fields = identity.split(':');
            let id = fields.next()?.parse().ok()?;
            let mut optional = || fields.next().and_then(|field| field.parse().ok());
            Some(RowIdentity { id, at: optional(), key: optional() })
        });
        let newest = newest.collect::<Option<VecDeque<_>>>()?;
        let oldest = parts.next().and_then(|oldest| {
            let (id, at) = oldest.split_once(':')?;
            Some((id.parse().ok()?, at.parse().ok()?))
        });
        let ascending = runs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        (!runs.is_empty() && ascending).then_some(Self { runs, top, newest, oldest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    fn identity(id: i64, at: i64) -> RowIdentity {
        RowIdentity { id, at: Some(at), key: Some(7) }
    }

    #[test]
    fn rows_with_the_ids_of_deleted_ones_get_positions_of_their_own() {
        let mut stable_ids = StableIds::default();
        stable_ids.remember((1..=307).map(|id| identity(id, id)));
        assert_eq!(stable_ids.top(307), 307);
        // All deleted; the next id is 1.
        assert_eq!(stable_ids.last_survivor(&[identity(1, 1000)]), None);
        stable_ids.begin_anew_after(0);
        assert_eq!(stable_ids.of(1), 308);
        assert_eq!(stable_ids.id(308), Some(1));
        assert_eq!(stable_ids.id(200), None);
        assert_eq!(stable_ids.top(1), 308);
    }

    #[test]
    fn rows_below_the_deleted_ones_keep_their_positions() {
        let mut stable_ids = StableIds::default();
        stable_ids.remember((1..=10).map(|id| identity(id, id)));
        stable_ids.top(10);
        let present: Vec<_> = (1..=6).map(|id| identity(id, id)).chain([identity(7, 99)]).collect();
        assert_eq!(stable_ids.last_survivor(&present), Some(6));
        stable_ids.begin_anew_after(6);
        assert_eq!((stable_ids.of(6), stable_ids.of(7)), (6, 11));
        assert_eq!((stable_ids.id(6), stable_ids.id(7), stable_ids.id(11)), (Some(6), None, Some(7)));
        assert_eq!((stable_ids.id_up_to(9), stable_ids.id_up_to(10), stable_ids.id_up_to(11)), (6, 6, 7));
    }

    /// What a follower of a store makes of looks at it.
    #[derive(Default)]
    struct Reader {
        stable_ids: StableIds,
        /// The row at each position.
        read: HashMap<i64, RowIdentity>,
    }

    impl Reader {
        /// Looks at a store with these rows. `false` when it waits for more of them.
        fn look(&mut self, mut rows: &[RowIdentity]) -> bool {
            let (first, last) = (rows.first(), rows.last());
            let oldest = first.map(|row| (row.id, row.at.unwrap()));
            let (top, latest) = (last.map_or(0, |row| row.id), last.and_then(|row| row.at));
            let noticed = self.stable_ids.notice_lost("it", oldest, top, latest, &mut rows, |rows, first, last| {
                let within = |row: &&RowIdentity| (first..=last).contains(&row.id);
                Box::pin(std::future::ready(Ok(rows.iter().filter(within).copied().collect())))
            });
            if noticed.now_or_never().unwrap().is_err() {
                return false;
            }
            for row in rows {
                assert_eq!(*self.read.entry(self.stable_ids.of(row.id)).or_insert(*row), *row);
            }
            self.stable_ids.remember(rows.iter().copied());
            self.stable_ids.top(top);
            true
        }

        fn restart(&mut self) {
            self.stable_ids = StableIds::restore(&self.stable_ids.resume_token()).unwrap();
        }
    }

    fn rows(ids: std::ops::RangeInclusive<i64>, second: i64) -> impl Iterator<Item = RowIdentity> {
        ids.map(move |id| identity(id, second + id))
    }

    #[test]
    fn a_standby_that_lags_is_waited_for_also_by_another_process() {
        let store: Vec<_> = rows(1..=1000, 0).collect();
        let mut reader = Reader::default();
        assert!(reader.look(&store));
        for there in [990, 995] {
            assert!(!reader.look(&store[..there]));
            reader.restart();
        }
        assert!(reader.look(&store));
        assert_eq!(reader.read.len(), 1000);
    }

    #[test]
    fn a_restored_store_is_read_from_its_first_new_row_on_and_an_emptied_one_at_once() {
        let store: Vec<_> = rows(1..=1000, 0).collect();
        let mut reader = Reader::default();
        reader.look(&store);
        let mut restored = store[..990].to_vec();
        assert!(!reader.look(&restored));
        reader.restart();
        for id in 991..=1005 {
            restored.extend(rows(id..=id, 5000));
            assert!(reader.look(&restored));
        }
        assert_eq!(reader.read.len(), 1015);
        assert!(reader.look(&[]) && reader.look(&[]));
        assert!(reader.look(&rows(1..=2, 9000).collect::<Vec<_>>()));
        assert_eq!(reader.read.len(), 1017);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(i64),
        /// At a standby that has not got so many rows.
        Look(usize),
        /// So many rows are gone, and their ids are given out again.
        Restore(usize),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_i64..9).prop_map(Step::Write),
            (0_usize..9).prop_map(Step::Look),
            (1_usize..20).prop_map(Step::Restore),
            Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn each_row_has_one_position_whatever_standby_is_looked_at(steps in prop::collection::vec(step(), 1..60)) {
            let (mut store, mut reader, mut written) = (vec![identity(1, 1)], Reader::default(), 1);
            for step in steps {
                match step {
                    Step::Write(count) => for _ in 0..count {
                        written += 1;
                        store.push(identity(store.len() as i64 + 1, written));
                    },
                    Step::Look(late) => {
                        reader.look(&store[..store.len().saturating_sub(late).max(1)]);
                    }
                    Step::Restore(lost) => store.truncate(store.len().saturating_sub(lost).max(1)),
                    Step::Restart => reader.restart(),
                }
                let rows: std::collections::HashSet<_> = reader.read.values().map(|row| (row.id, row.at)).collect();
                prop_assert_eq!(rows.len(), reader.read.len(), "a row counts twice");
            }
            written += 1;
            store.push(identity(store.len() as i64 + 1, written));
            prop_assert!(reader.look(&store), "a later row ends the waiting");
            prop_assert!(store.iter().all(|row| reader.read.values().any(|read| read == row)), "a row is missing");
        }

        #[test]
        fn a_position_is_never_given_out_twice(steps in prop::collection::vec((0_i64..40, 0_i64..40), 1..30)) {
            let mut stable_ids = StableIds::default();
            let (mut top_id, mut given) = (0, std::collections::HashSet::new());
            for (added, lost) in steps {
                let rows: Vec<_> = (top_id + 1..=top_id + added).map(|id| identity(id, id)).collect();
                for row in &rows {
                    prop_assert!(given.insert(stable_ids.of(row.id)));
                }
                stable_ids.remember(rows);
                top_id += added;
                stable_ids.top(top_id);
                if lost > 0 {
                    top_id = (top_id - lost).max(0);
                    stable_ids.begin_anew_after(top_id);
                }
                let mut again = StableIds::restore(&stable_ids.resume_token()).unwrap();
                prop_assert_eq!(again.top(top_id), stable_ids.top);
                prop_assert_eq!(&again.runs, &stable_ids.runs);
                for id in 1..=top_id {
                    prop_assert_eq!(stable_ids.id(stable_ids.of(id)), Some(id));
                    prop_assert_eq!(stable_ids.id_up_to(stable_ids.of(id)), id);
                }
            }
        }
    }
}
