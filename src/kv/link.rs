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
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisResult,
    TlsCertificates, TlsMode, Value,
};
use url::Url;

use crate::hosts;
use crate::relays::OpenError;

/// Commands in one pipeline, or on their way at once: the server answers others in between.
const AT_ONCE: usize = 500;
const SENTINEL_PORT: u16 = 26379;

/// Where a URL leads to.
pub struct Address {
    reach: Reach,
    /// The servers that the URL lists, each with the credentials and the database.
    listed: Vec<ConnectionInfo>,
    tls: Option<Files>,
    place: String,
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

/// PEM files, read at each connecting: they may be renewed at any time.
#[derive(Default)]
struct Files {
    /// In place of the authorities that browsers trust.
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// An open connection, or those to the nodes of a cluster.
pub enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Address {
    /// # Errors
    /// When the URL is not one of Redis. The text holds no part of it.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        // The driver's own text may repeat a part of the URL.
        let refused = || {
            OpenError(
                "the Redis URL cannot be understood; write it as redis://user:password@host:6379/0, or rediss:// for TLS"
                    .to_owned(),
            )
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(refused)?;
        let (transport, variant) = match scheme.split_once('+') {
            Some((transport, variant @ ("sentinel" | "cluster"))) => (transport, variant),
            _ => (scheme, ""),
        };
        let with_tls = transport == "rediss";
        let mut reach = if variant == "cluster" { Reach::Cluster } else { Reach::Server };
        let (mut files, mut listed) = (Files::default(), Vec::new());
        for url in hosts::each(&format!("{transport}://{rest}")) {
            let mut url = Url::parse(&url).map_err(|_| refused())?;
            if hosts::hides_password(&url) {
                return Err(refused());
            }
            let mut sentinel = (None, None);
            let mut left = Vec::new();
            for (name, value) in url.query_pairs().into_owned() {
                match &*name {
                    "sslrootcert" => files.authorities = Some(value.into()),
                    "sslcert" => files.certificate = Some(value.into()),
                    "sslkey" => files.key = Some(value.into()),
                    "sentinel_user" => sentinel.0 = Some(value),
                    "sentinel_password" => sentinel.1 = Some(value),
                    _ => left.push((name, value)),
                }
            }
            url.set_query(None);
            if !left.is_empty() {
                url.query_pairs_mut().extend_pairs(left);
            }
            if variant == "sentinel" {
                let path = url.path().trim_matches('/').to_owned();
                let (name, database) = path.split_once('/').unwrap_or((&path, ""));
                if name.is_empty() {
                    return Err(OpenError(
                        "the Redis URL names no master; write it as redis+sentinel://user:password@host:26379,host:26379/master/0"
                            .to_owned(),
                    ));
                }
                url.set_path(database);
                if url.port().is_none() {
                    url.set_port(Some(SENTINEL_PORT)).map_err(|()| refused())?;
                }
                reach = Reach::Master { name: name.to_owned(), user: sentinel.0, password: sentinel.1 };
            }
            listed.push(url.into_connection_info().map_err(|_| refused())?);
        }
        if matches!(reach, Reach::Server) && listed.len() > 1 {
            return Err(OpenError(
                "the Redis URL lists several hosts; write redis+sentinel:// or redis+cluster://".to_owned(),
            ));
        }
        if files.certificate.is_some() != files.key.is_some() {
            return Err(OpenError("the Redis URL has one of sslcert and sslkey without the other".to_owned()));
        }
        if with_tls {
            // An error only says that a provider is already installed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let first = listed.first().ok_or_else(refused)?;
        let addresses = listed.iter().map(|info| info.addr().to_string()).collect::<Vec<_>>().join(",");
        let place = match &reach {
            Reach::Server => format!("{addresses}/{}", first.redis_settings().db()),
            Reach::Master { name, .. } => format!("{addresses}/{name}/{}", first.redis_settings().db()),
            Reach::Cluster => addresses,
        };
        Ok(Self { reach, listed, tls: with_tls.then_some(files), place })
    }

    /// Hosts and ports, with the master's name and the database; for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// `limit` is that of connecting and asking together.
    pub async fn connect(&self, limit: Duration) -> RedisResult<Link> {
        let (connecting, answering) = (limit.mul_f64(0.4), limit.mul_f64(0.9));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(connecting)).set_response_timeout(Some(answering));
        let certificates = self.tls.as_ref().map(Files::read).transpose()?;
        match &self.reach {
            Reach::Server => {
                let info = self.listed[0].clone();
                let client = match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates)?,
                    None => Client::open(info)?,
                };
                Ok(Link::Server(client.get_multiplexed_async_connection_with_config(&config).await?))
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

impl Files {
    fn read(&self) -> RedisResult<TlsCertificates> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| named(path, &error));
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            _ => None,
        };
        Ok(TlsCertificates { client_tls, root_cert: self.authorities.as_ref().map(read).transpose()? })
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Link {
    /// The answers in order. A command that is refused does not take the others with it.
    pub async fn ask(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
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
