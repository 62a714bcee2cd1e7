//! Where to listen: addresses as Go's exporters take them, or sockets that systemd hands over.

use std::net::TcpListener;

use anyhow::{Context, bail};

/// Sockets for these addresses (`HOST:PORT`; without a host, all of them).
///
/// # Errors
/// When one cannot be opened; the text says which, and why.
pub(crate) fn listen(addresses: &[Address]) -> anyhow::Result<Vec<TcpListener>> {
    addresses.iter().map(Address::open).collect()
}

/// The sockets of a systemd unit (`sd_listen_fds(3)`).
///
/// # Errors
/// When there are none.
pub(crate) fn from_systemd() -> anyhow::Result<Vec<TcpListener>> {
    let mut handed = listenfd::ListenFd::from_env();
    let count = handed.len();
    if count == 0 {
        bail!("systemd has handed over no socket: --web.systemd-socket needs a socket unit (LISTEN_FDS)");
    }
    let mut listeners = Vec::with_capacity(count);
    for index in 0..count {
        let listener = handed.take_tcp_listener(index).context("a socket of the unit is no TCP socket")?;
        listeners.extend(listener);
    }
    Ok(listeners)
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written)
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Those to try, in this order: the first that can be opened is used.
    candidates: Vec<String>,
    written: String,
}

impl std::str::FromStr for Address {
    type Err = String;

    /// `HOST:PORT`, `[::1]:PORT`, `:PORT` or `*:PORT`.
    fn from_str(written: &str) -> Result<Self, String> {
        let hint = "write HOST:PORT, e.g. 127.0.0.1:9879, [::1]:9879 or :9879";
        let (host, port) = written.rsplit_once(':').ok_or_else(|| format!("no port; {hint}"))?;
        let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port; {hint}"))?;
        let candidates = match host {
            // Both families through one socket; IPv4 alone where a machine has no IPv6.
            "" | "*" => vec![format!("[::]:{port}"), format!("0.0.0.0:{port}")],
            _ if host.contains('/') => return Err(format!("{host:?} is no host; {hint}")),
            _ if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) => {
                return Err(format!("an IPv6 address needs brackets; {hint}"));
            }
            _ => vec![format!("{host}:{port}")],
        };
        Ok(Self { candidates, written: written.to_owned() })
    }
}

impl Address {
    /// Where a client on this machine finds what listens there.
    pub(crate) fn to_ask(&self) -> &str {
        // Of all addresses, those of IPv4, which every machine has; connecting to them means this machine.
        self.candidates.last().unwrap_or(&self.written)
    }

    fn open(&self) -> anyhow::Result<TcpListener> {
        let opened = self.candidates.iter().map(TcpListener::bind).reduce(|first, next| first.or(next));
        let opened = opened.unwrap_or_else(|| Err(std::io::ErrorKind::InvalidInput.into()));
        opened.with_context(|| {
            format!("cannot listen on {}; is another exporter running? (--web.listen-address)", self.written)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_other_exporters_take_them() {
        let candidates = |text: &str| text.parse::<Address>().map(|it| it.candidates);
        assert_eq!(candidates(":9879").unwrap(), ["[::]:9879", "0.0.0.0:9879"]);
        assert_eq!(candidates("*:9879"), candidates(":9879"));
        assert_eq!(candidates("[::1]:9879").unwrap(), ["[::1]:9879"]);
        assert_eq!(candidates("relay.example:9879").unwrap(), ["relay.example:9879"]);
        for (wrong, why) in [
            ("::1:9879", "brackets"),
            ("9879", "no port"),
            ("localhost:http", "is no port"),
            ("http://a:1", "is no host"),
        ] {
            assert!(candidates(wrong).unwrap_err().contains(why), "{wrong}");
        }
    }
}
