//! Which program's database this is, and which of its releases', told by its columns; statements cut to fit it.

use super::Family;
use crate::connect::sql::{Engine, Session};
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, fill};
use crate::relay::schema_cache;

/// Generations of new-api's store, by what they brought, and of one-api's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// one-api up to v0.6.10.
    Untimed,
    /// one-api from v0.6.11 on: durations.
    Timed,
    /// new-api from 2024-01 on: durations.
    UseTime,
    /// 2024-05: details in `other`.
    Other,
    /// 2025-06: channels with several keys.
    MultiKey,
    /// 2026-02: subscriptions.
    Subscriptions,
    /// 2026-06: its processes tell their version.
    Instances,
}

impl Level {
    /// The releases that have this store, for people.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Untimed => "up to v0.6.10",
            Self::Timed => "v0.6.11",
            Self::UseTime => "2024-01 to 2024-05",
            Self::Other => "2024-05 to 2025-06",
            Self::MultiKey => "2025-06 to 2026-02",
            Self::Subscriptions => "2026-02 to 2026-06",
            Self::Instances => "2026-06 or later",
        }
    }
}

pub(super) type SchemaCache = schema_cache::SchemaCache<Schema>;

/// The columns of one database, of which the relay may have two.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    engine: Engine,
    family: Family,
    columns: Columns,
}

impl Schema {
    pub(super) async fn detect(session: &mut Session, family: Family) -> Result<Self, ReadError> {
        let engine = session.engine();
        let text = match engine {
            Engine::Postgres => include_str!("sql/columns_postgres.sql"),
            Engine::MySql => include_str!("sql/columns_mysql.sql"),
            Engine::Sqlite => include_str!("sql/columns_sqlite.sql"),
        };
        let read = session.fetch_good("looking at the relay's columns", text, &[], |row| {
            let text = |column| row.text(column).map(|it| it.unwrap_or_default().into_owned());
            Ok((text("table_name")?, text("column_name")?, row.int("readable")? == Some(1)))
        });
        let columns = read.await?.into_iter().collect();
        Ok(Self { engine, family, columns })
    }

    /// The table has it, readable or not. MySQL tells only what may be read.
    fn exists(&self, table: &str, column: &str) -> bool {
        self.columns.exists(table, column)
    }

    /// The column is there and may be read.
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.columns.readable(table, column)
    }

    pub(super) fn has_table(&self, table: &str) -> bool {
        self.columns.has_table(table)
    }

    /// What tells the relay's options, if anything: the administrator's function, the administrator's view, or the table.
    pub(super) fn options(&self) -> Option<&'static str> {
        let told = |it: &&str| self.has(it, "key") && self.has(it, "value");
        ["exporter_options()", "exporter_options", "options"].into_iter().find(told)
    }

    /// The view of earlier scripts for PostgreSQL is there, on account of which the table of options cannot be replaced.
    pub(super) fn has_view_in_the_way(&self) -> bool {
        self.engine == Engine::Postgres && self.has_table("exporter_options")
    }

    /// Whether `logs` is a ledger of this family.
    ///
    /// # Errors
    /// When it is another program's, by name, or none.
    pub(super) fn look_at_logs(&self) -> Result<(), ReadError> {
        let refuse =
            |text: &str| Err(ReadError::new(Reason::Schema, format!("looking at the relay's columns: {text}")));
        let logs = |column| self.exists("logs", column);
        if !self.has_table("logs") {
            return refuse(
                "there is no table logs for this account; is this the relay's database, and are its grants made?",
            );
        }
        if logs("request_time") {
            return refuse("this is the database of one-hub or done-hub, which is not supported");
        }
        if self.exists("channels", "model_prefix") {
            return refuse("this is the database of Veloera, which is not supported");
        }
        let is_new = logs("use_time") || self.exists("tokens", "model_limits");
        match self.family {
            Family::NewApi if !is_new => refuse("this is the database of one-api: set `kind` to \"one-api\""),
            Family::NewApi if !logs("use_time") => refuse("new-api before 2024-01-21 is not supported"),
            Family::OneApi if is_new => refuse("this is the database of new-api: set `kind` to \"new-api\""),
            Family::NewApi | Family::OneApi => Ok(()),
        }
    }

    /// By what this account can see.
    pub(super) fn level(&self) -> Level {
        let logs = |column| self.exists("logs", column);
        match self.family {
            Family::OneApi if logs("elapsed_time") => Level::Timed,
            Family::OneApi => Level::Untimed,
            Family::NewApi if self.has_table("system_instances") => Level::Instances,
            Family::NewApi if self.has_table("user_subscriptions") => Level::Subscriptions,
            Family::NewApi if self.exists("channels", "channel_info") => Level::MultiKey,
            Family::NewApi if logs("other") => Level::Other,
            Family::NewApi => Level::UseTime,
        }
    }

    /// Cuts a statement to fit: `{table.column:type}` becomes the column or, where this release or account has none, null;
    /// other words in braces become what this engine or family calls it, and `{which}` a condition.
    pub(super) fn fit_with(&self, text: &str, condition: &str) -> String {
        fill(text, |name| {
            let word = match name {
                "which" => condition,
                "int" if self.engine == Engine::MySql => "signed",
                "int" => "bigint",
                "token_name" => self.family.token_name(),
                "types" => self.family.types(),
                "options" => self.options()?,
                "key" if self.engine == Engine::MySql => "`key`",
                "key" => "\"key\"",
                "without_tokens" => return Some(self.without_tokens()),
                _ => {
                    let (table, column) = name.split_once('.')?;
                    let (column, kind) = column.split_once(':')?;
                    return Some(self.column(table, column, kind));
                }
            };
            Some(word.to_owned())
        })
    }

    pub(super) fn fit(&self, text: &str) -> String {
        self.fit_with(text, "")
    }

    /// Rows whose token counts are none: one-api's speech and transcription.
    fn without_tokens(&self) -> String {
        if self.family == Family::NewApi {
            return "1 = 0".to_owned();
        }
        let elapsed = self.column("logs", "elapsed_time", "bigint");
        let charge = "quota > 0 and prompt_tokens = quota and completion_tokens = 0";
        // By the column's collation `TTS-` is `tts-`.
        let name = if self.engine == Engine::MySql { "cast(model_name as binary)" } else { "model_name" };
        format!("substr({name}, 1, 4) = 'tts-' or substr({name}, 1, 7) = 'whisper' or ({charge} and {elapsed} = 0)")
    }

    fn column(&self, table: &str, column: &str, kind: &str) -> String {
        match self.engine {
            Engine::Postgres if !self.has(table, column) => format!("cast(null as {kind})"),
            _ if !self.has(table, column) => "null".to_owned(),
            Engine::MySql => format!("`{column}`"),
            Engine::Postgres | Engine::Sqlite => format!("\"{column}\""),
        }
    }
}
