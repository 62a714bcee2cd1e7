//! The one place that opens Redis: one connection, opened by the first read, bounded pipelines, honest errors.

use std::collections::HashSet;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    cmd,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::model::{ReadError, Reason};
use crate::relays::OpenError;

/// Commands in one pipeline: the server answers others in between.
const PIPELINE: usize = 500;

/// A relay's Redis.
pub struct Kv {
    client: Client,
    /// `host:port/number`, for people.
    place: String,
    limit: Duration,
    manager: Option<ConnectionManager>,
    /// Keys of an unexpected type, each reported once.
    reported: HashSet<String>,
}

/// One command on one key.
pub struct Ask {
    command: &'static str,
    key: String,
    arguments: Vec<String>,
}

impl Ask {
    pub fn new(command: &'static str, key: impl Into<String>) -> Self {
        Self { command, key: key.into(), arguments: Vec::new() }
    }

    /// With arguments after the key.
    pub fn with(self, arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(), ..self }
    }

    pub fn command(&self) -> Cmd {
        let mut command = cmd(self.command);
        command.arg(&self.key).arg(&self.arguments);
        command
    }
}

impl Kv {
    /// `limit` is the client's limit of one batch of commands, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        let hint = "write it as redis://user:password@host:6379/0, or rediss:// for TLS";
        // The driver's own text may repeat a part of the URL.
        let client = Client::open(url.expose_secret())
            .map_err(|_| OpenError(format!("the Redis URL cannot be understood; {hint}")))?;
        let info = client.get_connection_info();
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // An error only says that a provider is already installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let place = format!("{}/{}", info.addr(), info.redis_settings().db());
        Ok(Self { client, place, limit, manager: None, reported: HashSet::new() })
    }

    /// `host:port/number`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The answers to commands that only read, in order; one that failed does not take the others with it.
    pub async fn read(&mut self, what: &str, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, ReadError> {
        let deadline = Instant::now() + self.limit;
        let mut manager = self.manager(what)?;
        let mut answers = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(PIPELINE) {
            let mut pipeline = Pipeline::with_capacity(chunk.len());
            for command in chunk {
                pipeline.add_command(command.clone());
            }
            let query = pipeline.ignore_errors().query_async::<Vec<RedisResult<Value>>>(&mut manager);
            match timeout_at(deadline, query).await {
                Ok(Ok(chunk)) => answers.extend(chunk),
                Ok(Err(error)) => return Err(self.error(what, &error)),
                Err(_) => {
                    let text = format!("{what}: Redis at {}: not done within {:?}", self.place, self.limit);
                    return Err(ReadError::new(Reason::Timeout, text));
                }
            }
        }
        Ok(answers)
    }

    /// The answers to commands that only read, in order; `None` where a key holds something else than is expected.
    pub async fn each<T: FromRedisValue>(&mut self, what: &str, asks: &[Ask]) -> Result<Vec<Option<T>>, ReadError> {
        let commands: Vec<Cmd> = asks.iter().map(Ask::command).collect();
        let answers = self.read(what, &commands).await?;
        if answers.len() != asks.len() {
            let text = format!("{what}: Redis gave another number of answers than asked for");
            return Err(ReadError::new(Reason::Data, text));
        }
        asks.iter().zip(answers).map(|(ask, answer)| self.value(what, ask, answer)).collect()
    }

    fn value<T: FromRedisValue>(
        &mut self,
        what: &str,
        ask: &Ask,
        answer: RedisResult<Value>,
    ) -> Result<Option<T>, ReadError> {
        let value = answer.and_then(|value| T::from_redis_value(value).map_err(Into::into));
        match value {
            Ok(value) => Ok(Some(value)),
            // One key of another type, or with other content, is that entity's problem only.
            Err(error) if error.code() == Some("WRONGTYPE") || is_content(error.kind()) => {
                if self.reported.insert(ask.key.clone()) {
                    tracing::warn!(
                        key = ask.key,
                        "left out a Redis key that does not hold what the relay writes there"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(self.error(what, &error)),
        }
    }

    /// The server's clock, as Unix milliseconds.
    pub async fn now_ms(&mut self) -> Result<i64, ReadError> {
        let what = "reading the clock of Redis";
        let answer = self.read(what, &[cmd("TIME")]).await?.pop();
        let time = answer.unwrap_or(Ok(Value::Nil)).and_then(|value| Ok(<(i64, i64)>::from_redis_value(value)?));
        time.map(|(seconds, micros)| seconds * 1000 + micros / 1000).map_err(|error| self.error(what, &error))
    }

    /// The manager wants a runtime to be born in, so it is born with the first read.
    fn manager(&mut self, what: &str) -> Result<ConnectionManager, ReadError> {
        if let Some(manager) = &self.manager {
            return Ok(manager.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(self.limit.mul_f64(0.4)))
            .set_response_timeout(Some(self.limit.mul_f64(0.9)));
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config)
            .map_err(|error| self.error(what, &error))?;
        self.manager = Some(manager.clone());
        Ok(manager)
    }

    /// An error in the words of the log: no key, no value, no secret.
    pub fn error(&self, what: &str, error: &RedisError) -> ReadError {
        let at = format!("{what}: Redis at {}", self.place);
        let (reason, text) = match error.kind() {
            _ if error.is_timeout() => (Reason::Timeout, format!("{at}: no answer in time")),
            ErrorKind::Io => {
                // The network's or TLS's own words: they know no password.
                let cause =
                    std::error::Error::source(error).map_or_else(|| "connection lost".to_owned(), ToString::to_string);
                (Reason::Connection, format!("{at}: {cause}; check that it runs and that the address is right"))
            }
            ErrorKind::AuthenticationFailed => {
                (Reason::Permission, format!("{at}: user or password refused; check the URL"))
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => {
                // Redis names the command here, never its arguments.
                let detail = error.detail().unwrap_or("not permitted");
                (Reason::Permission, format!("{at}: {detail}; allow the exporter's commands in the ACL"))
            }
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                (Reason::Permission, format!("{at}: user or password refused; check the URL"))
            }
            ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown) => {
                (Reason::Connection, format!("{at}: not ready ({})", error.category()))
            }
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
