//! How a Redis is reached: one server, the master that sentinels name, or a cluster; each with or without TLS.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::connect::address::{Address, Flaw, Host, Store};
use crate::connect::tls::{Trust, authorities};

/// Commands in one pipeline, or on their way at once: the server answers others in between.
const AT_ONCE: usize = 500;
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where a URL leads to.
pub(crate) struct Target {
    reach: Reach,
    /// The servers that the URL lists, each with the credentials and the database.
    listed: Vec<ConnectionInfo>,
    tls: Option<Trust>,
    endpoint: String,
}

enum Reach {
    Server,
    /// The listed are sentinels, and know the master of this name.
    Master {
        name: String,
        user: Option<String>,
        password: Option<String>,
    },
    /// The listed know the others.
    Cluster,
}

/// An open connection, or those to the nodes of a cluster.
pub(crate) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What a URL of Redis may say after the `?`; the first two of a socket, the next of sentinels.
const PARAMETERS: [&str; 10] = [
    "user",
    "pass",
    "sentinel_user",
    "sentinel_password",
    "db",
    "family",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslservername",
];

/// What a URL says, its parameters before the rest.
struct Wanted {
    user: Option<String>,
    password: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
    /// The database number, if it is a parameter.
    number: Option<i64>,
    trust: Trust,
}

impl Wanted {
    /// `variant` is what the scheme says after the `+`.
    fn of(address: &Address, variant: &str) -> Result<Self, Flaw> {
        let mut it = Self {
            user: address.user.clone(),
            password: address.password.clone(),
            sentinel_user: None,
            sentinel_password: None,
            number: None,
            trust: Trust::default(),
        };
        let (mut certificate, mut key) = (None, None);
        for (name, value) in address.parameters() {
            match name {
                "user" if variant == "unix" => it.user = Some(value.to_owned()),
                "pass" if variant == "unix" => it.password = Some(value.to_owned()),
                "sentinel_user" if variant == "sentinel" => it.sentinel_user = Some(value.to_owned()),
                "sentinel_password" if variant == "sentinel" => it.sentinel_password = Some(value.to_owned()),
                "db" => it.number = Some(number(value).ok_or_else(|| Flaw::value(name, "a database number"))?),
                // Of ioredis: any family, which is what happens here.
                "family" if value == "0" => {}
                "family" => return Err(Flaw::value(name, "0, addresses of any family")),
                "sslrootcert" => it.trust.authorities = Some(value.into()),
                "sslcert" => certificate = Some(value.into()),
                "sslkey" => key = Some(value.into()),
                "sslservername" if variant.is_empty() => it.trust.name = Some(value.to_owned()),
                _ => return Err(Address::unknown(name, &PARAMETERS)),
            }
        }
        it.trust.client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(wrong("the URL has one of sslcert and sslkey without the other")),
        };
        Ok(it)
    }

    /// The database number, which the path may name as well.
    fn database(&self, path: &str) -> Result<i64, Flaw> {
        let own = match path {
            "" => None,
            own => Some(number(own).ok_or_else(|| wrong("the database number is wrong"))?),
        };
        match (own, self.number) {
            (Some(own), Some(asked)) if own != asked => Err(wrong("the URL names two database numbers")),
            (own, asked) => Ok(own.or(asked).unwrap_or(0)),
        }
    }

    fn settings(&self, database: i64) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        settings
    }
}

fn wrong(what: &str) -> Flaw {
    Flaw::new(what, format!("write it as {}", Store::Redis.example()))
}

impl Target {
    /// # Errors
    /// When the URL is not one of Redis, or says something that is not understood. The text holds no part of it.
    pub(crate) fn parse(url: &str) -> Result<Self, Flaw> {
        let address = Address::parse(url)?;
        let scheme = address.scheme.replace("valkey", "redis");
        if !Store::Redis.schemes().contains(&&*scheme) {
            return Err(wrong("the URL is not one of Redis"));
        }
        let (transport, variant) = scheme.split_once('+').unwrap_or((&scheme, ""));
        let wanted = Wanted::of(&address, variant)?;
        let path = address.path.trim_end_matches('/');
        let (name, own) = match variant {
            "unix" => (path, ""),
            "sentinel" => path.split_once('/').unwrap_or((path, "")),
            _ => ("", path),
        };
        let database = wanted.database(own)?;
        if matches!(variant, "unix" | "sentinel") && name.is_empty() {
            let example = "redis+unix:///path, or redis+sentinel://user:password@host:26379,host:26379/master/0";
            return Err(Flaw::new("the URL names no socket or no master", format!("write it as {example}")));
        }
        if variant.is_empty() && address.hosts.len() > 1 {
            return Err(Flaw::new("the URL lists several hosts", "write redis+sentinel:// or redis+cluster://"));
        }
        let with_tls = transport == "rediss";
        if with_tls {
            // An error only says that a provider is already installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let port = if variant == "sentinel" { SENTINEL_PORT } else { PORT };
        let socket = PathBuf::from(format!("/{name}"));
        let settings = wanted.settings(database);
        let listed = |host: &Host| {
            let (host, port) = (host.name.clone(), host.port.unwrap_or(port));
            let addr = match variant {
                "unix" => ConnectionAddr::Unix(socket.clone()),
                _ if with_tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
                _ => ConnectionAddr::Tcp(host, port),
            };
            let info = addr.into_connection_info().map_err(|_| wrong("the host of the URL is wrong"))?;
            Ok(info.set_redis_settings(settings.clone()))
        };
        if variant != "unix" && address.hosts.iter().any(|host| host.name.is_empty() || host.is_socket()) {
            return Err(wrong("the host of the URL is wrong"));
        }
        let shown = address.hosts.iter().map(|host| host.with_port(port)).collect::<Vec<_>>().join(",");
        let endpoint = match variant {
            "unix" => format!("{}/{database}", socket.display()),
            "sentinel" => format!("{shown}{}/{database}", address.shown(name)),
            "cluster" => shown,
            _ => format!("{shown}/{database}"),
        };
        let listed = address.hosts.iter().map(listed).collect::<Result<_, _>>()?;
        let reach = match variant {
            "sentinel" => {
                Reach::Master { name: name.to_owned(), user: wanted.sentinel_user, password: wanted.sentinel_password }
            }
            "cluster" => Reach::Cluster,
            _ => Reach::Server,
        };
        Ok(Self { reach, listed, tls: with_tls.then_some(wanted.trust), endpoint })
    }

    /// Hosts and ports, with the master's name and the database; for people.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `limit` is that of connecting and asking together.
    pub(crate) async fn connect(&self, limit: Duration) -> RedisResult<Link> {
        let (connecting, answering) = (limit.mul_f64(0.4), limit.mul_f64(0.9));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(connecting)).set_response_timeout(Some(answering));
        let certificates = self.tls.as_ref().map(read).transpose()?;
        match &self.reach {
            Reach::Server => {
                let info = &self.listed[0];
                Ok(Link::Server(match (&self.tls, info.addr()) {
                    (Some(trust), ConnectionAddr::TcpTls { host, port, .. }) => {
                        let stream = timeout(connecting, encrypted(trust, host, *port));
                        let stream = stream.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                        let opening = MultiplexedConnection::new_with_config(info.redis_settings(), stream, config);
                        let (connection, driver) = opening.await?;
                        tokio::spawn(driver);
                        connection
                    }
                    _ => Client::open(info.clone())?.get_multiplexed_async_connection_with_config(&config).await?,
                }))
            }
            Reach::Master { name, user, password } => {
                let settings = self.listed[0].redis_settings();
                let sentinels = self.listed.iter().map(|info| info.addr().clone());
                let mut builder = SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master)?
                    .set_client_to_redis_db(settings.db());
                if let Some(user) = settings.username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = settings.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if let Some(user) = user {
                    builder = builder.set_client_to_sentinel_username(user);
                }
                if let Some(password) = password {
                    builder = builder.set_client_to_sentinel_password(password);
                }
                if let Some(certificates) = certificates {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                Ok(Link::Server(builder.build()?.get_async_connection_with_config(&config).await?))
            }
            Reach::Cluster => {
                let mut builder = ClusterClientBuilder::new(self.listed.clone())
                    .connection_timeout(connecting)
                    .response_timeout(answering)
                    .retries(3);
                if let Some(certificates) = certificates {
                    builder = builder.certs(certificates);
                }
                Ok(Link::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }
}

/// A session of our own TLS.
async fn encrypted(trust: &Trust, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let name = trust.name.clone().unwrap_or_else(|| host.to_owned());
    let trust = Trust { name: Some(name), ..trust.clone() };
    trust.connect(TcpStream::connect((host, port)).await?).await
}

/// The files, for the driver.
fn read(trust: &Trust) -> RedisResult<TlsCertificates> {
    let read = |path: &Path| fs::read(path).map_err(|error| named(path, &error));
    let client_tls = match &trust.client {
        Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
        None => None,
    };
    let authorities = trust.authorities.as_deref().map(authorities).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert: authorities.as_deref().map(read).transpose()? })
}

/// A database number.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number >= 0)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Link {
    /// The answers in order. A command that is refused does not take the others with it.
    pub(crate) async fn ask(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut answers = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(AT_ONCE) {
            match self {
                Self::Server(connection) => {
                    let mut pipeline = Pipeline::with_capacity(chunk.len());
                    for command in chunk {
                        pipeline.add_command(command.clone());
                    }
                    answers.extend(pipeline.ignore_errors().query_async::<Vec<RedisResult<Value>>>(connection).await?);
                }
                // A pipeline goes to one node; these find their own.
                Self::Cluster(connection) => {
                    let asked = chunk.iter().map(|command| {
                        let mut connection = connection.clone();
                        async move { connection.req_packed_command(command).await }
                    });
                    answers.extend(join_all(asked).await);
                }
            }
        }
        Ok(answers)
    }
}
