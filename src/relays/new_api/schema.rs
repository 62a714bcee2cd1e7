//! Which program's database this is, and which of its releases', told by its columns; statements cut to fit it.

use std::collections::HashMap;

use super::Family;
use crate::connect::sql::{Engine, Session};
use crate::model::{ReadError, Reason};
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
    /// Table, column, and whether it may be read.
    columns: HashMap<String, HashMap<String, bool>>,
}

impl Schema {
    pub(super) async fn detect(session: &mut Session, family: Family) -> Result<Self, ReadError> {
        let engine = session.engine();
        let text = match engine {
            Engine::Postgres => include_str!("sql/columns_postgres.sql"),
            Engine::MySql => include_str!("sql/columns_mysql.sql"),
            Engine::Sqlite => include_str!("sql/columns_sqlite.sql"),
        };
        let mut columns: HashMap<String, HashMap<String, bool>> = HashMap::new();
        let read = session.fetch_good("looking at the relay's columns", text, &[], |row| {
            let text = |column| row.text(column).map(|it| it.unwrap_or_default().into_owned());
            Ok((text("table_name")?, text("column_name")?, row.int("readable")? == Some(1)))
        });
        for (table, column, readable) in read.await? {
            columns.entry(table).or_default().insert(column, readable);
        }
        Ok(Self { engine, family, columns })
    }

    /// The table has it, readable or not. MySQL tells only what may be read.
    fn exists(&self, table: &str, column: &str) -> bool {
        self.columns.get(table).is_some_and(|columns| columns.contains_key(column))
    }

    /// The column is there and may be read.
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.columns.get(table).and_then(|columns| columns.get(column)) == Some(&true)
    }

    pub(super) fn has_table(&self, table: &str) -> bool {
        self.columns.contains_key(table)
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
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            filled.push_str(before);
            match name {
                "which" => filled.push_str(condition),
                "int" => filled.push_str(if self.engine == Engine::MySql { "signed" } else { "bigint" }),
                "token_name" => filled.push_str(self.family.token_name()),
                "without_tokens" => filled.push_str(&self.without_tokens()),
                "types" => filled.push_str(self.family.types()),
                "options" if self.has("exporter_options", "value") => filled.push_str("exporter_options"),
                "options" => filled.push_str("options"),
                "key" => filled.push_str(if self.engine == Engine::MySql { "`key`" } else { "\"key\"" }),
                _ => filled.push_str(&self.column(name)),
            }
            rest = after;
        }
        filled + rest
    }

    pub(super) fn fit(&self, text: &str) -> String {
        self.fit_with(text, "")
    }

    /// Rows whose token counts are none: one-api's speech and transcription.
    fn without_tokens(&self) -> String {
        if self.family == Family::NewApi {
            return "1 = 0".to_owned();
        }
        let elapsed = self.column("logs.elapsed_time:bigint");
        let charge = "quota > 0 and prompt_tokens = quota and completion_tokens = 0";
        format!(
            "substr(model_name, 1, 4) = 'tts-' or substr(model_name, 1, 7) = 'whisper' or ({charge} and {elapsed} = 0)"
        )
    }

    fn column(&self, name: &str) -> String {
        let Some((path, kind)) = name.split_once(':') else { return format!("{{{name}}}") };
        let (table, column) = path.split_once('.').unwrap_or(("", path));
        match self.engine {
            Engine::Postgres if !self.has(table, column) => format!("cast(null as {kind})"),
            _ if !self.has(table, column) => "null".to_owned(),
            Engine::MySql => format!("`{column}`"),
            Engine::Postgres | Engine::Sqlite => format!("\"{column}\""),
        }
    }
}
