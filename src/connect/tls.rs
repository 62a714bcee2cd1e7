//! TLS of our own, where a driver's does not do: a certificate that is trusted because its file is named, and a server
//! whose certificate has another name than its address.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Flaw;

/// How long a driver may take to come to a port that was opened for it.
const DRIVER_CONNECTS: Duration = Duration::from_secs(10);

/// The word for the authorities that this machine trusts, as in libpq 16.
pub(crate) const SYSTEM: &str = "system";

/// Whom to trust. PEM files are read at each connecting: they may be renewed at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// In place of the public authorities: a file with authorities, or with the very certificate of the server; `system`
    /// for those of this machine.
    pub authorities: Option<PathBuf>,
    /// A certificate of the exporter's own, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has to have; `None` where any will do.
    pub name: Option<String>,
}

/// A certificate of the exporter's own and its key, by the parameters that name them.
///
/// # Errors
/// When one of them is missing.
pub(crate) fn client(
    [named, key_named]: [&str; 2],
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Flaw> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        _ => {
            let what = format!("the URL has one of {named} and {key_named} without the other");
            Err(Flaw::new(what, format!("name the certificate by {named} and its key by {key_named}")))
        }
    }
}

/// The file behind what `sslrootcert` says.
///
/// # Errors
/// When the machine has no file of authorities.
pub(crate) fn authorities(named: &Path) -> io::Result<PathBuf> {
    if named != Path::new(SYSTEM) {
        return Ok(named.to_owned());
    }
    let missing =
        || io::Error::new(io::ErrorKind::NotFound, "this machine has no file of authorities (ca-certificates)");
    openssl_probe::probe().cert_file.ok_or_else(missing)
}

impl Trust {
    /// A TLS session over `stream`.
    ///
    /// # Errors
    /// When a file cannot be read (the text names it), or the server is not to be trusted ([`io::ErrorKind::InvalidData`]).
    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.name.clone().unwrap_or_else(|| "any".to_owned())).map_err(invalid)?;
        TlsConnector::from(Arc::new(self.config()?)).connect(name, stream).await
    }

    /// # Errors
    /// When a file cannot be read; the text names it.
    pub(crate) fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let mut named = Vec::new();
        match &self.authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let path = authorities(path)?;
                named = certificates(&path)?;
                for certificate in &named {
                    roots.add(certificate.clone()).map_err(|error| unreadable(&path, error))?;
                }
            }
        }
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let usual = usual.build().map_err(invalid)?;
        let verifier = Verifier { usual, named, any_name: self.name.is_none(), provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(invalid)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, secret)
                    .map_err(|error| unreadable(key, error))?
            }
        })
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    found.map(|it| it.map_err(|error| unreadable(path, error))).collect()
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: {error}", path.display()))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Trusts what the usual verifier does, and a certificate that the file of authorities itself holds, as OpenSSL does:
/// one that signs itself, as the manuals of PostgreSQL and Redis make it, may say that it is an authority.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    any_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = if self.named.iter().any(|it| it == certificate) {
            in_force(certificate, now).and_then(|()| {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
                    .map(|()| ServerCertVerified::assertion())
            })
        } else {
            self.usual.verify_server_cert(certificate, others, name, ocsp, now)
        };
        match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.any_name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// Whether a certificate's dates hold.
fn in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (validity, now) = (certificate.validity(), now.as_secs().cast_signed());
    match now {
        _ if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
        _ if now > validity.not_after.timestamp() => Err(CertificateError::Expired.into()),
        _ => Ok(()),
    }
}

/// Passes one connection of this machine to itself through `stream`, for a driver that can only connect by an address.
/// Gives the port on 127.0.0.1; who connects there first is passed on, and nobody else.
///
/// # Errors
/// When no port can be opened.
pub(crate) async fn forward(mut stream: TlsStream<TcpStream>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let Ok(Ok((mut driver, _))) = timeout(DRIVER_CONNECTS, listener.accept()).await else { return };
        drop(listener);
        // Either side may go at any time; the other then sees the end.
        copy_bidirectional(&mut driver, &mut stream).await.ok();
    });
    Ok(port)
}

/// Asks a PostgreSQL server for TLS on a new connection (protocol 3, `SSLRequest`).
///
/// # Errors
/// When it does not take TLS.
pub(crate) async fn request_of_postgres(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await?;
    match stream.read_u8().await? {
        b'S' => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the server takes no TLS")),
    }
}
