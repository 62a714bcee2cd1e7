//! Which servers a URL of PostgreSQL names, and how each is reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::net::TcpStream;
use url::Url;

use crate::connect::address::{Address, Flaw, Host, Store};
use crate::connect::tls::{self, Trust};

const PORT: u16 = 5432;

/// What a URL of PostgreSQL may say after the `?`.
const PARAMETERS: [&str; 15] = [
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslservername",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "connect_timeout",
];

/// One server that a URL names.
pub struct Server {
    pub(super) options: PgConnectOptions,
    endpoint: String,
    /// The URL's own limit of connecting.
    pub(super) connect_timeout: Option<Duration>,
    /// TLS of our own, and the host and port to reach.
    tls: Option<(Trust, String, u16)>,
}

impl Server {
    /// `host:port/database`, for people.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let Some((trust, host, port)) = &self.tls else { return PgConnection::connect_with(&self.options).await };
        let mut stream = TcpStream::connect((&**host, *port)).await?;
        tls::request_of_postgres(&mut stream).await?;
        let port = tls::forward(trust.connect(stream).await?).await?;
        let options = self.options.clone().host("127.0.0.1").port(port).ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await
    }
}

/// The servers of a URL of PostgreSQL, in its order.
///
/// # Errors
/// When it is none, or says something that is not understood. The text holds no secret.
pub(crate) fn servers(url: &str) -> Result<Vec<Server>, Flaw> {
    let hint = format!("write it as {}", Store::Postgres.example());
    let address = Address::parse(url).map_err(|flaw| Flaw::new(flaw.what, format!("{hint}; {}", flaw.hint)))?;
    if !Store::Postgres.schemes().contains(&&*address.scheme) {
        return Err(Flaw::new("the URL is not one of PostgreSQL", hint));
    }
    let wanted = Wanted::of(&address)?;
    let options = wanted.options()?;
    let hosts = wanted.hosts.iter().enumerate();
    Ok(hosts.map(|(index, host)| wanted.server(&options, &address, index, host.clone())).collect())
}

/// What a URL says, its parameters before the rest.
struct Wanted<'a> {
    hosts: Vec<Host>,
    /// Of libpq: where to connect to, while the certificate is that of the host.
    addresses: Vec<Host>,
    port: Option<u16>,
    database: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    /// Command-line options of the session.
    words: Option<&'a str>,
    application: &'a str,
    connect_timeout: Option<Duration>,
    mode: Option<PgSslMode>,
    trust: Trust,
}

impl<'a> Wanted<'a> {
    fn of(address: &'a Address) -> Result<Self, Flaw> {
        let mut it = Self {
            hosts: address.hosts.clone(),
            addresses: Vec::new(),
            port: None,
            database: &address.path,
            user: address.user.as_deref(),
            password: address.password.as_deref(),
            words: None,
            application: "llm-relay-exporter",
            connect_timeout: None,
            mode: None,
            trust: Trust::default(),
        };
        let (mut certificate, mut key) = (None, None);
        for (name, value) in address.parameters() {
            let named = |port| value.split(',').map(|host| Host::named(host, port)).collect::<Result<Vec<_>, _>>();
            let port = it.hosts.first().and_then(|host| host.port);
            match name {
                "sslmode" | "ssl" => it.mode = Some(ssl_mode(name, value)?),
                "sslrootcert" => it.trust.authorities = Some(value.into()),
                "sslcert" => certificate = Some(PathBuf::from(value)),
                "sslkey" => key = Some(PathBuf::from(value)),
                "sslservername" => it.trust.name = Some(value.to_owned()),
                "host" => it.hosts = named(port)?,
                "hostaddr" => it.addresses = named(port)?,
                "port" => it.port = Some(value.parse().map_err(|_| Flaw::value(name, "a port"))?),
                "dbname" => it.database = value,
                "user" => it.user = Some(value),
                "password" => it.password = Some(value),
                "options" => it.words = Some(value),
                "application_name" => it.application = value,
                "connect_timeout" => {
                    let seconds = value.parse().map_err(|_| Flaw::value(name, "whole seconds"))?;
                    // Of libpq, 0 is no limit.
                    it.connect_timeout = Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero());
                }
                _ => return Err(Address::unknown(name, &PARAMETERS)),
            }
        }
        it.trust.client = tls::client(["sslcert", "sslkey"], certificate, key)?;
        if it.trust.authorities.as_deref() == Some(Path::new(tls::SYSTEM)) {
            if it.mode.is_some_and(|mode| !matches!(mode, PgSslMode::VerifyFull)) {
                return Err(Flaw::value("sslmode", "verify-full, with sslrootcert=system"));
            }
            it.mode = Some(PgSslMode::VerifyFull);
        }
        it.mode = it.verified()?;
        if !it.addresses.is_empty() && it.addresses.len() != it.hosts.len() {
            return Err(Flaw::value("hostaddr", "one address for each host"));
        }
        Ok(it)
    }

    /// The mode in which all that was asked for holds: as in libpq, `require` with authorities is `verify-ca`.
    fn verified(&self) -> Result<Option<PgSslMode>, Flaw> {
        let Trust { authorities, client, name } = &self.trust;
        let idle = |name, wanted| Err(Flaw::idle(name, "sslmode", wanted));
        match self.mode {
            Some(PgSslMode::VerifyFull) => {}
            _ if name.is_some() => return idle("sslservername", "sslmode=verify-full"),
            Some(PgSslMode::VerifyCa) => {}
            Some(PgSslMode::Require) if authorities.is_some() => return Ok(Some(PgSslMode::VerifyCa)),
            _ if authorities.is_some() => {
                return idle("sslrootcert", "sslmode=verify-full, or verify-ca to leave the name out");
            }
            Some(PgSslMode::Disable | PgSslMode::Allow) if client.is_some() => {
                return idle("sslcert", "sslmode=verify-full, or require to believe any server");
            }
            _ => {}
        }
        Ok(self.mode)
    }

    /// All but the server, for the driver.
    fn options(&self) -> Result<PgConnectOptions, Flaw> {
        let options = match self.words {
            // The driver takes them whole from its own URLs only; a password keeps it from looking for one in ~/.pgpass.
            Some(words) => Url::parse_with_params("postgres:", [("password", ""), ("options", words)])
                .ok()
                .and_then(|url| PgConnectOptions::from_url(&url).ok())
                .ok_or_else(|| Flaw::value("options", "-c name=value"))?,
            None => PgConnectOptions::new_without_pgpass(),
        };
        // Poolers refuse start parameters that they do not know.
        let mut options =
            options.application_name(self.application).extra_float_digits(None).disable_statement_logging();
        if let Some(user) = self.user {
            options = options.username(user);
        }
        if let Some(password) = self.password {
            options = options.password(password);
        }
        if !self.database.is_empty() {
            options = options.database(self.database);
        }
        if let Some(path) = self.trust.authorities.as_deref().filter(|path| *path != Path::new(tls::SYSTEM)) {
            options = options.ssl_root_cert(path);
        }
        if let Some((certificate, key)) = &self.trust.client {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        Ok(options.ssl_mode(self.mode.unwrap_or(PgSslMode::Prefer)))
    }

    fn server(&self, options: &PgConnectOptions, address: &Address, index: usize, mut host: Host) -> Server {
        let name = self.trust.name.clone().unwrap_or_else(|| host.name.clone());
        if let Some(address) = self.addresses.get(index) {
            host.name.clone_from(&address.name);
        }
        let port = self.port.or(host.port).unwrap_or(PORT);
        host.port = Some(port);
        if host.name.is_empty() {
            // A socket where there is one, as libpq does.
            host.name = options.get_host().to_owned();
        }
        let endpoint = format!("{}{}", host.with_port(PORT), address.shown(self.database));
        let options = options.clone().port(port);
        let options = if host.is_socket() { options.socket(&host.name) } else { options.host(&host.name) };
        let name = Some(name).filter(|_| matches!(self.mode, Some(PgSslMode::VerifyFull)));
        let tls = (self.has_own_tls() && !host.is_socket())
            .then(|| (Trust { name, ..self.trust.clone() }, host.name.clone(), port));
        Server { options, endpoint, connect_timeout: self.connect_timeout, tls }
    }

    /// Whether the driver's TLS would not do.
    fn has_own_tls(&self) -> bool {
        let verifies = matches!(self.mode, Some(PgSslMode::VerifyCa | PgSslMode::VerifyFull));
        let names_server = self.trust.name.is_some() || !self.addresses.is_empty();
        verifies && (self.trust.authorities.is_some() || names_server)
    }
}

/// libpq's words for TLS, and those of JDBC and node-postgres that it takes as well.
fn ssl_mode(name: &str, value: &str) -> Result<PgSslMode, Flaw> {
    match value {
        "true" | "1" if name == "ssl" => Ok(PgSslMode::Require),
        "false" | "0" if name == "ssl" => Ok(PgSslMode::Disable),
        "no-verify" => Ok(PgSslMode::Require),
        _ => value.parse().map_err(|_| Flaw::value(name, "disable, allow, prefer, require, verify-ca, verify-full")),
    }
}
