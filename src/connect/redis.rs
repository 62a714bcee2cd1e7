//! The one place that opens Redis: one connection, opened by the first read, bounded pipelines, honest errors.

mod link;

use std::collections::HashSet;
use std::time::Duration;

use self::link::Link;
pub(crate) use self::link::Target;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value, cmd};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::connect::address::OpenError;
use crate::model::{ReadError, Reason};

/// Keys of an unexpected type that are remembered and reported: clients may make up names of models without end.
const MOST_REPORTED: usize = 1000;

/// What is said of a wrong user or password.
const REFUSED: &str = "user or password refused; check the URL";

/// Keys of one `MGET`: a fraction of a millisecond of the server's time.
const TEXTS_AT_ONCE: usize = 500;

/// A relay's Redis.
pub struct Redis {
    target: Target,
    limit: Duration,
    /// Kept while it is good.
    link: Option<Link>,
    /// Keys of an unexpected type, each reported once.
    reported: HashSet<String>,
}

/// One command on one key.
pub struct KeyCommand {
    command: &'static str,
    key: String,
    arguments: Vec<String>,
    fields: &'static [&'static str],
}

impl KeyCommand {
    /// A command such as `HGETALL`, without arguments after the key.
    pub fn new(command: &'static str, key: impl Into<String>) -> Self {
        Self { command, key: key.into(), arguments: Vec::new(), fields: &[] }
    }

    /// With arguments after the key.
    pub fn with(self, arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(), ..self }
    }

    /// With names of fields at the end.
    pub fn fields(self, fields: &'static [&'static str]) -> Self {
        Self { fields, ..self }
    }

    /// As the driver sends it.
    pub fn command(&self) -> Cmd {
        let mut command = cmd(self.command);
        command.arg(&self.key).arg(&self.arguments).arg(self.fields);
        command
    }
}

impl Redis {
    /// `limit` is the client's limit of one batch of commands, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self { target: Target::parse(url.expose_secret())?, limit, link: None, reported: HashSet::new() })
    }

    /// `host:port/number`.
    pub fn endpoint(&self) -> &str {
        self.target.endpoint()
    }

    /// The answers to commands that only read, in order; one that failed does not take the others with it.
    ///
    /// # Errors
    /// When the server cannot be reached, or breaks off, within the limit.
    pub async fn read(&mut self, what: &str, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, ReadError> {
        let deadline = Instant::now() + self.limit;
        if let Some(mut link) = self.link.take() {
            match timeout_at(deadline, link.ask(commands)).await {
                Ok(Ok(answers)) => {
                    self.link = Some(link);
                    return Ok(answers);
                }
                // A connection that went bad while it was idle says nothing about the server.
                Ok(Err(error)) if !error.is_timeout() => {}
                Ok(Err(error)) => return Err(self.error(what, &error)),
                Err(_) => return Err(self.late(what)),
            }
        }
        let asking = async {
            let mut link = self.target.connect(self.limit).await?;
            let answers = link.ask(commands).await?;
            Ok((link, answers))
        };
        match timeout_at(deadline, asking).await {
            Ok(Ok((link, answers))) => {
                self.link = Some(link);
                Ok(answers)
            }
            Ok(Err(error)) => Err(self.error(what, &error)),
            Err(_) => Err(self.late(what)),
        }
    }

    fn late(&self, what: &str) -> ReadError {
        let text = format!("{what}: Redis at {}: not done within {:?}", self.endpoint(), self.limit);
        ReadError::new(Reason::Timeout, text)
    }

    /// The answers to commands that only read, in order; `None` where a key holds something else than is expected.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses a command, within the limit.
    pub async fn each<T: FromRedisValue>(
        &mut self,
        what: &str,
        asks: &[KeyCommand],
    ) -> Result<Vec<Option<T>>, ReadError> {
        let commands: Vec<Cmd> = asks.iter().map(KeyCommand::command).collect();
        let answers = self.read(what, &commands).await?;
        if answers.len() != asks.len() {
            let text = format!("{what}: Redis gave another number of answers than asked for");
            return Err(ReadError::new(Reason::Data, text));
        }
        asks.iter().zip(answers).map(|(ask, answer)| self.value(what, ask, answer)).collect()
    }

    /// Texts, in one command for many keys; `None` where there is no such key, or one of another type.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn texts(&mut self, what: &str, keys: &[String]) -> Result<Vec<Option<String>>, ReadError> {
        let mut asks = Vec::new();
        for some in keys.chunks(TEXTS_AT_ONCE) {
            let rest: Vec<&str> = some[1..].iter().map(String::as_str).collect();
            asks.push(KeyCommand::new("MGET", &*some[0]).with(&rest));
        }
        let answers = self.each::<Vec<Option<String>>>(what, &asks).await?;
        let found: Vec<Option<String>> = answers.into_iter().flatten().flatten().collect();
        if found.len() != keys.len() {
            let text = format!("{what}: Redis gave another number of answers than asked for");
            return Err(ReadError::new(Reason::Data, text));
        }
        Ok(found)
    }

    fn value<T: FromRedisValue>(
        &mut self,
        what: &str,
        ask: &KeyCommand,
        answer: RedisResult<Value>,
    ) -> Result<Option<T>, ReadError> {
        let value = answer.and_then(|value| T::from_redis_value(value).map_err(Into::into));
        match value {
            Ok(value) => Ok(Some(value)),
            // One key of another type, or with other content, is that entity's problem only.
            Err(error) if error.code() == Some("WRONGTYPE") || is_content(error.kind()) => {
                self.report(&ask.key);
                Ok(None)
            }
            Err(error) => Err(self.error(what, &error)),
        }
    }

    /// Logs, once, that a key holds something else than is expected.
    pub(crate) fn report(&mut self, key: &str) {
        if self.reported.len() < MOST_REPORTED && self.reported.insert(key.to_owned()) {
            tracing::warn!(key, "left out a Redis key that does not hold what the relay writes there");
        }
    }

    /// The server's clock, as Unix milliseconds.
    ///
    /// # Errors
    /// Like [`Self::read`].
    pub async fn now_ms(&mut self) -> Result<i64, ReadError> {
        let what = "reading the clock of Redis";
        let answer = self.read(what, &[cmd("TIME")]).await?.pop();
        let time = answer.unwrap_or(Ok(Value::Nil)).and_then(|value| Ok(<(i64, i64)>::from_redis_value(value)?));
        time.map(|(seconds, micros)| seconds.saturating_mul(1000).saturating_add(micros / 1000))
            .map_err(|error| self.error(what, &error))
    }

    /// An error in the words of the log: no key, no value, no secret.
    pub fn error(&self, what: &str, error: &RedisError) -> ReadError {
        let at = format!("{what}: Redis at {}", self.endpoint());
        let (reason, text) = match error.kind() {
            _ if error.is_timeout() => (Reason::Timeout, format!("{at}: no answer in time")),
            ErrorKind::Io => {
                // The network's or TLS's own words, which a cluster's driver passes on: they know no password.
                let source = std::error::Error::source(error).map(ToString::to_string);
                let cause = source.or_else(|| error.detail().map(str::to_owned));
                let cause = cause.unwrap_or_else(|| "connection lost".to_owned());
                if cause.contains("AuthenticationFailed") {
                    return ReadError::new(Reason::Permission, format!("{at}: {REFUSED}"));
                }
                // Both sides speak of certificates when it is one that they refuse.
                let hint = if cause.contains("ertificate") || cause.contains("fatal alert") {
                    "check `sslrootcert`, `sslcert` and `sslkey` in the URL"
                } else if cause.contains("No such file") {
                    "check the files that the URL names"
                } else {
                    "check that it runs and that the address is right"
                };
                (Reason::Connection, format!("{at}: {cause}; {hint}"))
            }
            // Content that is not understood never comes here: these are the bytes between answers.
            ErrorKind::Parse => (
                Reason::Connection,
                format!("{at}: an answer that is not Redis's, or half of one; check host and port"),
            ),
            ErrorKind::AuthenticationFailed => (Reason::Permission, format!("{at}: {REFUSED}")),
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                // Redis names the command here, never its arguments.
                let detail = error.detail().unwrap_or("not permitted");
                (Reason::Permission, format!("{at}: {detail}; allow the exporter's commands in the ACL"))
            }
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                (Reason::Permission, format!("{at}: {REFUSED}"))
            }
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain,
            ) => (Reason::Connection, format!("{at}: not ready ({})", error.category())),
            ErrorKind::InvalidClientConfig | ErrorKind::Client => {
                (Reason::Connection, format!("{at}: {}", error.category()))
            }
            _ => (Reason::Data, format!("{at}: {}", error.code().unwrap_or_else(|| error.category()))),
        };
        ReadError::new(reason, text)
    }
}

/// The answer came and is not what the relay writes.
fn is_content(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedReturnType | ErrorKind::Parse)
}
