//! One upstream attempt, as the relay logged it, and what it means.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::PROVIDER;
use super::clock::Clock;
use crate::connect::sql::Cells;
use crate::model::{FailureClass, Outcome, UsageRow};
use crate::relay::shared_names::SharedNames;

/// A row of `t_request_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub id: i64,
    /// Naive microseconds since 1970 by the relay's clock.
    pub at: Option<i64>,
    pub model: Option<String>,
    /// [`key_id`] of the upstream key.
    pub key: Option<i64>,
    pub status: Status,
    pub latency_ms: Option<i64>,
}

/// The status code: what the relay had at hand when the attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Code(i64),
    /// SQLite only, MySQL refuses the row: the words of an exception. They are not kept, and would not tell more: a timeout
    /// and a connection that was reset both leave an empty text (v2.2.8, seen).
    Text,
    /// The caller went away.
    Absent,
}

impl Status {
    /// The outcome by the relay's own rule (v2.2.8 `app/service/stats/stats_service.py`): `200 <= code < 300` is success;
    /// less, or more, is failure, and in SQLite a text is more than any number; null is neither.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Code(200..=299) => Outcome::Success,
            Self::Code(_) | Self::Text => Outcome::Failure,
            Self::Absent => Outcome::Excluded,
        }
    }

    /// The code where it is one of HTTP; the relay also writes numbers of the operating system's errors.
    pub(super) fn http(self) -> Option<u16> {
        match self {
            Self::Code(code @ 100..=599) => u16::try_from(code).ok(),
            _ => None,
        }
    }

    /// Why it failed, as far as the code alone tells; `None` on success.
    pub(super) fn failure(self) -> Option<FailureClass> {
        match self {
            Self::Code(200..=299) => None,
            Self::Code(_) => Some(FailureClass::of_status(self.http())),
            Self::Text => Some(FailureClass::Unknown),
            Self::Absent => Some(FailureClass::ClientAbort),
        }
    }
}

impl Attempt {
    /// # Errors
    /// When a column cannot be understood.
    pub(super) fn read(row: &dyn Cells) -> Result<Self, sqlx::Error> {
        let status = match (row.int("status")?, row.int("has_text")?) {
            (Some(code), _) => Status::Code(code),
            (None, Some(1)) => Status::Text,
            (None, _) => Status::Absent,
        };
        Ok(Self {
            id: row.int("id")?.ok_or(sqlx::Error::RowNotFound)?,
            at: row.int("at")?,
            model: row.text("model")?.map(Cow::into_owned),
            key: key_of(row)?,
            status,
            latency_ms: row.int("latency_ms")?,
        })
    }

    /// In our words, at a position of the ledger; `None` without a time, as on the relay's screens.
    pub(super) fn row(&self, position: i64, clock: Clock, names: &mut SharedNames) -> Option<UsageRow> {
        let outcome = self.status.outcome();
        Some(UsageRow {
            id: position,
            request_id: position,
            started_at: clock.instant(self.at?)?,
            counted: true,
            is_final: true,
            is_error: outcome == Outcome::Failure,
            outcome: Some(outcome),
            is_success: outcome.verdict(),
            failure: self.status.failure(),
            key_id: self.key,
            provider_id: PROVIDER,
            model: self.model.as_deref().filter(|name| !name.is_empty()).map(|name| names.share(name)),
            status: self.status.http(),
            duration_ms: self.latency_ms.map(|ms| u32::try_from(ms.max(0)).unwrap_or(u32::MAX)),
            ..UsageRow::default()
        })
    }
}

/// The first four bytes of a key's SHA-256: enough to tell a pool's keys apart, and nothing of the key.
pub(super) fn key_id(key: &str) -> i64 {
    let digest = Sha256::digest(key);
    i64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// A key as people see it: the same four bytes.
pub(super) fn key_name(id: i64) -> String {
    format!("{id:08x}")
}

/// The id of the key in a row: hashed by the store, or here and now.
pub(super) fn key_of(row: &dyn Cells) -> Result<Option<i64>, sqlx::Error> {
    Ok(match row.int("key_id")? {
        Some(id) => Some(id),
        None => row.text("api_key")?.map(|key| key_id(&key)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_own_rule_tells_success_failure_and_neither() {
        use Outcome::{Excluded, Failure, Success};
        let of = [
            (Status::Code(199), Failure),
            (Status::Code(200), Success),
            (Status::Code(299), Success),
            (Status::Code(300), Failure),
            (Status::Code(104), Failure),
            (Status::Text, Failure),
            (Status::Absent, Excluded),
        ];
        for (status, outcome) in of {
            assert_eq!(status.outcome(), outcome, "{status:?}");
        }
    }

    #[test]
    fn a_key_is_known_by_four_bytes_of_its_hash() {
        // printf %s AIzaSyTest | sha256sum | cut -c1-8
        assert_eq!(key_name(key_id("")), "e3b0c442");
    }
}
