//! One setting of a relay, and those that some products share, for them to list.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use secrecy::SecretString;
use url::Url;

use super::plan::RelayPlan;
use super::{Need, Product};

/// One setting below `[relays.<name>]`.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its place below the relay, e.g. `boards.top_users`.
    pub path: &'static str,
    /// What may be written.
    pub value_type: ValueType,
    /// What it means to leave it out.
    pub absent: Absent,
}

/// What it means to leave a setting out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It has to be written.
    Refused,
    /// The plan stays without it.
    Nothing,
    /// The same as this text, written as in an environment variable.
    Means(&'static str),
}

/// What may be written, and where it goes.
#[derive(Clone, Copy)]
pub enum ValueType {
    /// The label of a product.
    Product,
    /// One of these words.
    OneOf(&'static [Choice]),
    /// Written like `90s`, `10m` or `2h`.
    Duration {
        /// The shortest that is taken.
        least: Duration,
        /// The longest that is taken.
        most: Duration,
        /// Puts it into the plan.
        set: fn(&mut RelayPlan, Duration),
    },
    /// A whole number.
    Count {
        /// The smallest that is taken.
        least: usize,
        /// The greatest that is taken.
        most: usize,
        /// Puts it into the plan.
        set: fn(&mut RelayPlan, usize),
    },
    /// An IANA name.
    TimeZone(fn(&mut RelayPlan, Tz)),
    /// Hours from UTC, written as the relay has them.
    Offset(fn(&mut RelayPlan, String)),
    /// A list; as a variable, with commas.
    Texts(fn(&mut RelayPlan, Vec<String>)),
    /// Of a page that anybody may read: no user, no password, no query.
    Page(fn(&mut RelayPlan, Url)),
    /// A relative one begins at the folder of the configuration file.
    Path(fn(&mut RelayPlan, PathBuf)),
    /// An address with a password in it: also as `<path>_file` and `<path>_env`. Whether it may be left out depends on
    /// the product.
    Secret {
        /// Whether a product needs it, and which stores it may name.
        need: fn(&Product) -> Need,
        /// Puts it into the plan.
        set: fn(&mut RelayPlan, SecretString),
    },
}

/// A text that may be written, and what it does.
pub(crate) type Choice = (&'static str, fn(&mut RelayPlan));

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Where days begin, in place of the relay's own setting.
pub(crate) const TIMEZONE: Setting = optional("timezone", ValueType::TimeZone(|relay, it| relay.timezone = Some(it)));

/// Where days begin when the relay's own setting is empty or cannot be seen.
pub(crate) const TIMEZONE_FALLBACK: Setting = Setting {
    path: "timezone_fallback",
    value_type: ValueType::TimeZone(|relay, it| relay.timezone_fallback = it),
    absent: Absent::Means("Asia/Shanghai"),
};

/// Of relays with rows.
pub(crate) const AUDIT_INTERVAL: Setting =
    duration("audit_interval", MINUTE, WEEK, "10m", |relay, it| relay.audit_interval = it);

/// Of relays with rows.
pub(crate) const HISTORY_BUDGET: Setting =
    duration("history.budget", SECOND, MINUTE, "6s", |relay, it| relay.history_budget = it);

/// Of relays that know users.
pub(crate) const TOP_USERS: Setting = top("boards.top_users", |relay, it| relay.boards.top_users = it);

/// Of relays that know users.
pub(crate) const MAX_USERS: Setting =
    count("series.max_users", 1, 100_000, "1000", |relay, it| relay.series.max_users = it);

/// Of relays that know teams.
pub(crate) const TOP_TEAMS: Setting = top("boards.top_teams", |relay, it| relay.boards.top_teams = it);

/// Of relays that know teams.
pub(crate) const MAX_TEAMS: Setting =
    count("series.max_teams", 1, 100_000, "1000", |relay, it| relay.series.max_teams = it);

/// A length of leaderboards.
pub(crate) const fn top(path: &'static str, set: fn(&mut RelayPlan, usize)) -> Setting {
    count(path, 0, 1000, "20", set)
}

pub(crate) const fn count(
    path: &'static str,
    least: usize,
    most: usize,
    absent: &'static str,
    set: fn(&mut RelayPlan, usize),
) -> Setting {
    Setting { path, value_type: ValueType::Count { least, most, set }, absent: Absent::Means(absent) }
}

pub(crate) const fn duration(
    path: &'static str,
    least: Duration,
    most: Duration,
    absent: &'static str,
    set: fn(&mut RelayPlan, Duration),
) -> Setting {
    Setting { path, value_type: ValueType::Duration { least, most, set }, absent: Absent::Means(absent) }
}

pub(crate) const fn optional(path: &'static str, value_type: ValueType) -> Setting {
    Setting { path, value_type, absent: Absent::Nothing }
}
