//! How a Redis is reached: one server, the master that sentinels name, or a cluster; each with or without TLS.

use std::io;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisFuture, RedisResult, ServerErrorKind, Value, cmd,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::connect::address::{Address, Flaw, Host, Store};
use crate::connect::tls::{self, Trust, forward};

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
        /// The credentials of the sentinels.
        sentinel: RedisConnectionInfo,
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
    /// User and password, and those of the sentinels.
    own: (Option<String>, Option<String>),
    sentinel: (Option<String>, Option<String>),
    /// The database number, if it is a parameter.
    number: Option<i64>,
    trust: Trust,
}

impl Wanted {
    /// `variant` is what the scheme says after the `+`.
    fn of(address: &Address, variant: &str) -> Result<Self, Flaw> {
        let mut it = Self {
            own: (address.user.clone(), address.password.clone()),
            sentinel: (None, None),
            number: None,
            trust: Trust::default(),
        };
        let (mut certificate, mut key) = (None, None);
        for (name, value) in address.parameters() {
            match name {
                "user" if variant == "unix" => it.own.0 = Some(value.to_owned()),
                "pass" if variant == "unix" => it.own.1 = Some(value.to_owned()),
                "sentinel_user" if variant == "sentinel" => it.sentinel.0 = Some(value.to_owned()),
                "sentinel_password" if variant == "sentinel" => it.sentinel.1 = Some(value.to_owned()),
                "db" => it.number = Some(number(value).ok_or_else(|| Flaw::value(name, "a database number"))?),
                // Of ioredis: any family, which is what happens here.
                "family" if value == "0" => {}
                "family" => return Err(Flaw::value(name, "0, addresses of any family")),
                "sslrootcert" => it.trust.authorities = Some(value.into()),
                "sslcert" => certificate = Some(value.into()),
                "sslkey" => key = Some(value.into()),
                "sslservername" => it.trust.name = Some(value.to_owned()),
                _ => return Err(Address::unknown(name, &PARAMETERS)),
            }
        }
        it.trust.client = tls::client(["sslcert", "sslkey"], certificate, key)?;
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
}

fn settings((user, password): &(Option<String>, Option<String>), database: i64) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_db(database);
    if let Some(user) = user {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    settings
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
        if !with_tls && wanted.trust != Trust::default() {
            return Err(Flaw::new("the URL says whom to trust by TLS, and asks for none", "let it begin with rediss"));
        }
        let port = if variant == "sentinel" { SENTINEL_PORT } else { PORT };
        let socket = PathBuf::from(format!("/{name}"));
        let settings = settings(&wanted.own, database);
        let listed = |host: &Host| {
            let (host, port) = (host.name.clone(), host.port.unwrap_or(port));
            let addr = match variant {
                "unix" => ConnectionAddr::Unix(socket.clone()),
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
            "sentinel" => Reach::Master { name: name.to_owned(), sentinel: self::settings(&wanted.sentinel, 0) },
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
        let opening = Opening { tls: self.tls.as_ref(), connecting: limit.mul_f64(0.4), answering: limit.mul_f64(0.9) };
        match &self.reach {
            Reach::Server => Ok(Link::Server(opening.server(&self.listed[0]).await?)),
            Reach::Master { name, sentinel } => Ok(Link::Server(opening.master(name, &self.listed, sentinel).await?)),
            Reach::Cluster => Ok(Link::Cluster(opening.cluster(&self.listed).await?)),
        }
    }
}

/// How servers are connected to.
#[derive(Clone, Copy)]
struct Opening<'a> {
    tls: Option<&'a Trust>,
    /// Limits.
    connecting: Duration,
    answering: Duration,
}

impl Opening<'_> {
    async fn server(self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connecting))
            .set_response_timeout(Some(self.answering));
        let (Some(trust), ConnectionAddr::Tcp(host, port)) = (self.tls, info.addr()) else {
            return Client::open(info.clone())?.get_multiplexed_async_connection_with_config(&config).await;
        };
        let stream = encrypted(trust, host, *port, self.connecting).await?;
        let (connection, driver) =
            MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await?;
        tokio::spawn(driver);
        Ok(connection)
    }

    /// The master that the first sentinel names which knows it.
    async fn master(
        self,
        name: &str,
        listed: &[ConnectionInfo],
        sentinel: &RedisConnectionInfo,
    ) -> RedisResult<MultiplexedConnection> {
        // One that is mute leaves time for the others.
        let share = self.connecting / listed.len().max(1) as u32;
        let hasty = Self { connecting: share, answering: share, ..self };
        let mut failed = None;
        for info in listed {
            let asking = async {
                let mut connection = hasty.server(&info.clone().set_redis_settings(sentinel.clone())).await?;
                let question = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).to_owned();
                question.query_async::<Option<(String, u16)>>(&mut connection).await
            };
            match asking.await {
                Ok(Some((host, port))) => {
                    let master = ConnectionAddr::Tcp(host, port).into_connection_info()?;
                    return self.as_master(&master.set_redis_settings(info.redis_settings().clone())).await;
                }
                Ok(None) => failed = Some(io::Error::other("the sentinels know no master of that name").into()),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    /// A server that says that it is a master, or does not tell this user.
    async fn as_master(self, info: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.server(info).await?;
        match cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await {
            Ok(role) if role.first().is_some_and(|it| *it != Value::BulkString(b"master".to_vec())) => {
                Err(io::Error::other("the sentinels name a server that is no master yet").into())
            }
            Err(error) if error.kind() != ErrorKind::Server(ServerErrorKind::NoPerm) => Err(error),
            _ => Ok(connection),
        }
    }

    async fn cluster(self, listed: &[ConnectionInfo]) -> RedisResult<ClusterConnection> {
        let mut builder = ClusterClientBuilder::new(listed.to_vec())
            .connection_timeout(self.connecting)
            .response_timeout(self.answering)
            .retries(3);
        if let Some(trust) = self.tls {
            builder = builder.async_dns_resolver(Tunnels { trust: trust.clone(), limit: self.connecting });
        }
        builder.build()?.get_async_connection().await
    }
}

/// A session of our own TLS.
async fn encrypted(trust: &Trust, host: &str, port: u16, limit: Duration) -> io::Result<TlsStream<TcpStream>> {
    let name = trust.name.clone().unwrap_or_else(|| host.to_owned());
    let trust = Trust { name: Some(name), ..trust.clone() };
    let connecting = async { trust.connect(TcpStream::connect((host, port)).await?).await };
    timeout(limit, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The nodes of a cluster behind TLS, whose driver knows them by their addresses alone: each time that it connects to one,
/// it is given a port of this machine that leads there.
struct Tunnels {
    trust: Trust,
    limit: Duration,
}

impl AsyncDNSResolver for Tunnels {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let port = forward(encrypted(&self.trust, host, port, self.limit).await?).await?;
            let leads: Box<dyn Iterator<Item = SocketAddr> + Send> =
                Box::new(iter::once((Ipv4Addr::LOCALHOST, port).into()));
            Ok(leads)
        })
    }
}

/// A database number.
fn number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number >= 0)
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
