//! A channel, which is a provider: its state, its balance, its last test, its keys.

use super::schema::Schema;
use crate::connect::sql::{Cells, Engine, Session};
use crate::model::{AccountState, ReadError};

/// Keys of one channel, whatever it says.
const MOST_KEYS: u64 = 100_000;

/// A row of `channels`.
#[derive(Debug, PartialEq)]
pub(super) struct Channel {
    pub id: i64,
    pub kind: i64,
    pub name: String,
    pub groups: String,
    status: i64,
    /// The upstream's answer that it was switched off for.
    disabled_code: Option<u16>,
    /// What is left, and when the upstream told it.
    pub balance: Option<(f64, i64)>,
    /// Milliseconds, and when.
    pub test: Option<(u64, i64)>,
    /// Of one with several keys.
    pub keys: Option<Keys>,
}

/// How many keys of a channel are in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub normal: u64,
    pub disabled: u64,
    pub failed: u64,
}

impl Channel {
    fn read(row: &dyn Cells) -> Result<Self, sqlx::Error> {
        let number = |column| row.int(column).map(Option::unwrap_or_default);
        let text = |column| row.text(column).map(|it| it.unwrap_or_default().into_owned());
        let (balance_at, test_at) = (number("balance_updated_time")?, number("test_time")?);
        Ok(Self {
            id: row.int("id")?.ok_or(sqlx::Error::RowNotFound)?,
            kind: number("type")?,
            name: text("name")?,
            groups: text("group_list")?,
            status: number("status")?,
            disabled_code: text("disabled_code")?.parse().ok(),
            balance: row.float("balance")?.filter(|_| balance_at > 0).map(|balance| (balance, balance_at)),
            test: (test_at > 0).then_some((u64::try_from(number("response_time")?).unwrap_or(0), test_at)),
            keys: match text("pool_size")?.parse() {
                Ok(size) => Some(Keys::of(size, &text("pool_states")?)),
                Err(_) => None,
            },
        })
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.status == 1
    }

    /// 1 on, 2 off by hand, 3 off by the relay (`common/constants.go`).
    pub(super) fn state(&self) -> Option<AccountState> {
        Some(match (self.status, self.disabled_code) {
            (1, _) => AccountState::Normal,
            (2, _) => AccountState::Disabled,
            (3, Some(401 | 403)) => AccountState::Unauthorized,
            (3, Some(402)) => AccountState::QuotaExceeded,
            (3, Some(429)) => AccountState::RateLimited,
            (3, _) => AccountState::Error,
            _ => return None,
        })
    }
}

impl Keys {
    /// `states` is a list of the states of keys that are not on, as JSON; a key that is not in it is on.
    fn of(size: u64, states: &str) -> Self {
        let states: Vec<serde_json::Value> = serde_json::from_str(states).unwrap_or_default();
        let count = |state: u64| states.iter().filter(|it| it.as_u64() == Some(state)).count() as u64;
        let (disabled, failed) = (count(2), count(3));
        Self { normal: size.min(MOST_KEYS).saturating_sub(disabled + failed), disabled, failed }
    }

    pub(super) const fn by_state(self) -> [(AccountState, u64); 3] {
        [
            (AccountState::Normal, self.normal),
            (AccountState::Disabled, self.disabled),
            (AccountState::Error, self.failed),
        ]
    }
}

/// All channels. There are some dozen, or some thousand.
pub(super) async fn channels(session: &mut Session, schema: &Schema) -> Result<Vec<Channel>, ReadError> {
    let text = match session.engine() {
        Engine::Postgres => include_str!("sql/channels_postgres.sql"),
        Engine::MySql => include_str!("sql/channels_mysql.sql"),
        Engine::Sqlite => include_str!("sql/channels_sqlite.sql"),
    };
    session.fetch_good("reading channels", &schema.fit(text), &[], Channel::read).await
}
