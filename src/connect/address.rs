//! Addresses of servers, taken apart: `scheme://user:password@one:1,two:2/path?name=value`.
//!
//! A password that is not percent-encoded may look like any other part of its URL, so a text that can be read in two
//! ways is refused, and what is shown of an address is host and port, and a name behind them only where it can be
//! nothing else.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

/// The products that relays keep their data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    Postgres,
    MySql,
    Sqlite,
    Redis,
}

impl Store {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
        }
    }

    /// The schemes of its URLs, without `:`.
    pub(crate) const fn schemes(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["postgres", "postgresql"],
            Self::MySql => &["mysql", "mariadb"],
            Self::Sqlite => &["sqlite"],
            Self::Redis => &[
                "redis",
                "rediss",
                "valkey",
                "valkeys",
                "redis+unix",
                "redis+sentinel",
                "rediss+sentinel",
                "redis+cluster",
                "rediss+cluster",
            ],
        }
    }

    /// How its URLs are written.
    pub(crate) const fn example(self) -> &'static str {
        match self {
            Self::Postgres => "postgres://user:password@host:5432/database",
            Self::MySql => "mysql://user:password@host:3306/database",
            Self::Sqlite => "sqlite:///path/to/file.db",
            Self::Redis => "redis://user:password@host:6379/0, or rediss:// for TLS",
        }
    }
}

/// An address that cannot be used at all. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// What to do about a password that cannot be told from the rest.
const ENCODING: &str =
    "in user and password write @ : / ? # % and spaces as %40 %3A %2F %3F %23 %25 %20, and an @ after the host as %40";

/// Parameters of other drivers. Only these are named when they are refused: any other word may be a part of a password.
const FOREIGN: [&str; 35] = [
    "channel_binding",
    "client_encoding",
    "connection_limit",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "max",
    "passfile",
    "pgbouncer",
    "pool_timeout",
    "prepare",
    "protocol",
    "require_auth",
    "rejectUnauthorized",
    "schema",
    "search_path",
    "service",
    "servername",
    "serverTimezone",
    "sslaccept",
    "sslcrl",
    "sslpassword",
    "sslsni",
    "ssl_min_protocol_version",
    "statement_timeout",
    "target_session_attrs",
    "tcp_user_timeout",
    "tls",
    "useSSL",
    "useUnicode",
    "timezone",
    "verify_ssl",
];

/// What is wrong with an address, and what to do. Holds no part of it but names of well-known parameters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub what: String,
    pub hint: String,
}

impl Flaw {
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// A parameter with a value that cannot be used; the name is one that is understood.
    pub(crate) fn value(name: &str, allowed: &str) -> Self {
        Self::new(format!("the value of `{name}` in the URL cannot be used"), format!("allowed: {allowed}"))
    }

    /// A parameter that would have no effect, because `mode` asks for less.
    pub(crate) fn idle(name: &str, mode: &str, wanted: &str) -> Self {
        let what = format!("the URL has `{name}`, which has no effect without a stricter `{mode}`");
        Self::new(what, format!("write {wanted}"))
    }
}

impl From<Flaw> for OpenError {
    fn from(Flaw { what, hint }: Flaw) -> Self {
        Self(format!("{what}; {hint}"))
    }
}

/// An address, every part of it decoded.
pub(crate) struct Address {
    pub scheme: String,
    /// Not empty.
    pub user: Option<String>,
    pub password: Option<String>,
    /// At least one.
    pub hosts: Vec<Host>,
    /// What follows the `/` after the hosts.
    pub path: String,
    parameters: Vec<(String, String)>,
    /// Whether an `@` says where the hosts begin: without one a port and a path may be a password.
    credentials: bool,
}

/// One server of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// A name, an IP address without brackets, or the path of a socket; empty where the URL says none.
    pub name: String,
    pub port: Option<u16>,
}

impl Address {
    /// # Errors
    /// When a text is no URL, or one that can be read in more than one way.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let is_scheme = |it: &&str| it.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'+') && !it.is_empty();
        let split = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let (scheme, rest) = split.ok_or_else(|| Flaw::new("is not a URL", ENCODING))?;
        if rest.contains(|it: char| it.is_control() || it.is_whitespace()) {
            return Err(Flaw::new("has a space or a control character in the URL", ENCODING));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let at = rest.rfind('@');
        if rest.contains('#') || at.is_some_and(|at| at > end) {
            let what = "the URL can be read in more than one way: a #, or a / or ? before the last @, is not encoded";
            return Err(Flaw::new(what, ENCODING));
        }
        let (authority, tail) = rest.split_at(end);
        // What stands before the last @ is user and password.
        let (user, hosts) = authority.split_at(at.map_or(0, |at| at + 1));
        let user = user.strip_suffix('@').unwrap_or(user);
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        Ok(Self {
            scheme: scheme.to_owned(),
            user: Some(decoded(user)?).filter(|user| !user.is_empty()),
            password: password.map(decoded).transpose()?,
            hosts: hosts.split(',').map(Host::parse).collect::<Result<_, _>>()?,
            path: decoded(path.strip_prefix('/').unwrap_or(path))?,
            parameters: query.split('&').filter(|it| !it.is_empty()).map(parameter).collect::<Result<_, _>>()?,
            credentials: at.is_some(),
        })
    }

    /// The parameters in their order, which the reader has to understand one and all.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses a parameter. Nothing that was asked for is left out silently.
    pub(crate) fn unknown(name: &str, understood: &[&str]) -> Flaw {
        let what = match FOREIGN.iter().chain(understood).find(|known| **known == name) {
            Some(known) => format!("the URL has the parameter `{known}`, which has no meaning here"),
            None => "the URL has a parameter that is not understood".to_owned(),
        };
        Flaw::new(what, format!("remove it; understood are {}", understood.join(", ")))
    }

    /// `/name`, where the name is a plain one that cannot be a part of a password; else nothing. For people.
    pub(crate) fn shown<'a>(&self, name: &'a str) -> Shown<'a> {
        let plain = name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-' | b'.'));
        Shown(Some(name).filter(|_| self.credentials && plain && (1..64).contains(&name.len())))
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, Flaw> {
        let wrong = |part| Flaw::new(format!("the {part} of the URL is wrong"), ENCODING);
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, rest) = rest.split_once(']').ok_or_else(|| wrong("host"))?;
                name.parse::<Ipv6Addr>().map_err(|_| wrong("host"))?;
                let port =
                    if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(|| wrong("port"))?) };
                (name, port)
            }
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let digits = |port: &&str| port.bytes().all(|it| it.is_ascii_digit());
        let port = port.map(|port| Some(port).filter(digits)?.parse().ok().filter(|port| *port > 0));
        let port = port.map(|port| port.ok_or_else(|| wrong("port"))).transpose()?;
        let host = Self { name: decoded(name)?, port };
        if host.is_plain() { Ok(host) } else { Err(wrong("host")) }
    }

    /// From a name that a parameter says.
    pub(crate) fn named(name: &str, port: Option<u16>) -> Result<Self, Flaw> {
        let host = Self { name: name.to_owned(), port };
        if host.is_plain() { Ok(host) } else { Err(Flaw::new("the host of the URL is wrong", ENCODING)) }
    }

    fn is_plain(&self) -> bool {
        self.is_socket()
            || self.name.parse::<Ipv6Addr>().is_ok()
            || self.name.chars().all(|it| it.is_alphanumeric() || matches!(it, '.' | '-' | '_'))
    }

    /// Whether this is the path of a Unix socket, or of the folder that it is in.
    pub(crate) fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    /// `host:port` as one writes it, an IPv6 address in brackets.
    pub(crate) fn with_port(&self, default: u16) -> String {
        let port = self.port.unwrap_or(default);
        match (&*self.name, self.is_socket()) {
            (name, true) => name.to_owned(),
            ("", _) => format!("localhost:{port}"),
            (name, _) if name.contains(':') => format!("[{name}]:{port}"),
            (name, _) => format!("{name}:{port}"),
        }
    }
}

/// A name after the server, or nothing.
pub(crate) struct Shown<'a>(Option<&'a str>);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

fn parameter(text: &str) -> Result<(String, String), Flaw> {
    let missing = || Flaw::new("a parameter of the URL has no value", ENCODING);
    let (name, value) = text.split_once('=').ok_or_else(missing)?;
    Ok((decoded(name)?, decoded(value)?))
}

fn decoded(text: &str) -> Result<String, Flaw> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Flaw::new("the URL has a % that begins no character of UTF-8", ENCODING))
}
