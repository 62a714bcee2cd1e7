//! `tls_server_config`: certificates, versions, suites and client certificates.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::clients::{self, Policy};
use super::sources::Sources;
use super::yaml::{At, Problems, Section};

pub(crate) struct Tls {
    pub config: Arc<ServerConfig>,
    /// Every client has shown a certificate of the configured authority.
    pub clients_verified: bool,
}

/// What was given as text or as a file, and where.
struct Pem {
    line: u64,
    field: String,
    bytes: Vec<u8>,
}

/// None without the section, and when it has problems.
pub(crate) fn read(mut section: Section, sources: &mut Sources, problems: &mut Problems) -> Option<Tls> {
    if section.is_empty() {
        return None;
    }
    let before = problems.0.len();
    let line = section.line();
    let chain = pem(&mut section, "cert", "cert_file", sources, problems);
    let key = pem(&mut section, "key", "key_file", sources, problems);
    if problems.0.len() == before {
        for (missing, name) in [(chain.is_none(), "cert"), (key.is_none(), "key")] {
            if missing {
                problems.add(line, format!("tls_server_config needs {name}_file or {name}"));
            }
        }
    }
    let chain = chain.and_then(|pem| certificates(&pem, problems));
    let key = key.and_then(|pem| private_key(&pem, problems));
    let policy = policy(&mut section, sources, problems);
    let versions = versions(&mut section, problems);
    let provider = Arc::new(provider(&mut section, problems));
    // Accepted and without effect, as with other exporters: the client's preference decides.
    section.flag("prefer_server_cipher_suites", problems);
    section.finish(problems);
    if problems.0.len() > before {
        return None;
    }

    let clients_verified = matches!(policy, Policy::Verified { mandatory: true, .. });
    let config = clients::verifier(policy, &provider).and_then(|clients| {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.unwrap_or_default(), key.ok_or(rustls::Error::NoCertificatesPresented)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    });
    match config {
        Ok(config) => Some(Tls { config: Arc::new(config), clients_verified }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            problems.add(line, "tls_server_config: the private key does not belong to the certificate");
            None
        }
        Err(error) => {
            problems.add(line, format!("tls_server_config cannot be used: {error}"));
            None
        }
    }
}

fn pem(
    section: &mut Section,
    inline: &'static str,
    file: &'static str,
    sources: &mut Sources,
    problems: &mut Problems,
) -> Option<Pem> {
    let text = section.text(inline, problems);
    let path = section.text(file, problems);
    match (text, path) {
        (Some(_), Some(path)) => {
            problems.add(path.line, format!("{} and {file} exclude each other; keep one", section.name(inline)));
            None
        }
        (Some(text), None) => {
            Some(Pem { line: text.line, field: section.name(inline), bytes: text.value.into_bytes() })
        }
        (None, Some(path)) => match sources.read(Path::new(&path.value)) {
            Ok(bytes) => Some(Pem { line: path.line, field: section.name(file), bytes }),
            Err(error) => {
                problems.add(path.line, format!("{}: cannot read {:?}: {error}", section.name(file), path.value));
                None
            }
        },
        (None, None) => None,
    }
}

/// The parser's own errors quote the line, which may be part of a key: they are not shown.
fn certificates(pem: &Pem, problems: &mut Problems) -> Option<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(&pem.bytes).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Some(chain),
        _ => {
            problems.add(pem.line, format!("{} holds no PEM certificate (-----BEGIN CERTIFICATE-----)", pem.field));
            None
        }
    }
}

fn private_key(pem: &Pem, problems: &mut Problems) -> Option<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_slice(&pem.bytes).ok();
    if key.is_none() {
        problems.add(pem.line, format!("{} holds no PEM private key without a passphrase", pem.field));
    }
    key
}

fn policy(section: &mut Section, sources: &mut Sources, problems: &mut Problems) -> Policy {
    let before = problems.0.len();
    let authority = pem(section, "client_ca", "client_ca_file", sources, problems);
    let sans = section.texts("client_allowed_sans", problems);
    let auth = section.text("client_auth_type", problems);
    if problems.0.len() > before {
        return Policy::Ignored;
    }
    let line = auth.as_ref().map_or(section.line(), |auth| auth.line);
    let policy = match auth.as_ref().map_or("NoClientCert", |auth| &*auth.value) {
        "NoClientCert" => Policy::Ignored,
        "RequestClientCert" => Policy::Unverified { mandatory: false },
        "RequireAnyClientCert" | "RequireClientCert" => Policy::Unverified { mandatory: true },
        kind @ ("VerifyClientCertIfGiven" | "RequireAndVerifyClientCert") => {
            return verified(kind == "RequireAndVerifyClientCert", line, authority, sans, problems);
        }
        _ => {
            problems.add(
                line,
                "tls_server_config.client_auth_type must be one of NoClientCert, RequestClientCert, \
                 RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
            );
            return Policy::Ignored;
        }
    };
    // Both would promise a check that does not happen.
    if let (Some(pem), Policy::Ignored) = (&authority, &policy) {
        problems.add(pem.line, format!("{} needs client_auth_type: RequireAndVerifyClientCert", pem.field));
    }
    if let Some(sans) = sans {
        problems
            .add(sans.line, "tls_server_config.client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert");
    }
    policy
}

fn verified(
    mandatory: bool,
    line: u64,
    authority: Option<Pem>,
    sans: Option<At<Vec<At<String>>>>,
    problems: &mut Problems,
) -> Policy {
    if let Some(sans) = &sans
        && sans.value.is_empty()
    {
        problems.add(sans.line, "tls_server_config.client_allowed_sans is empty: nobody could connect");
    }
    let mut roots = RootCertStore::empty();
    match authority {
        None => problems.add(line, "tls_server_config.client_auth_type needs client_ca_file or client_ca"),
        Some(pem) => {
            for certificate in certificates(&pem, problems).unwrap_or_default() {
                if let Err(error) = roots.add(certificate) {
                    problems.add(pem.line, format!("{}: a certificate cannot be used: {error}", pem.field));
                }
            }
        }
    }
    let sans = sans.map(|sans| sans.value.into_iter().map(|san| san.value).collect());
    Policy::Verified { mandatory, roots, sans }
}

fn versions(section: &mut Section, problems: &mut Problems) -> Vec<&'static SupportedProtocolVersion> {
    let mut bound = |field, default: &'static SupportedProtocolVersion| {
        let Some(At { line, value }) = section.text(field, problems) else { return default };
        match &*value {
            "TLS12" => &TLS12,
            "TLS13" => &TLS13,
            _ => {
                problems.add(line, format!("tls_server_config.{field} must be TLS12 or TLS13; older ones are unsafe"));
                default
            }
        }
    };
    let (min, max) = (bound("min_version", &TLS12), bound("max_version", &TLS13));
    if min == &TLS13 && max == &TLS12 {
        problems.add(section.line(), "tls_server_config.max_version is below min_version");
    }
    [&TLS12, &TLS13]
        .into_iter()
        .filter(|it| (*it == &TLS12 && min == &TLS12) || (*it == &TLS13 && max == &TLS13))
        .collect()
}

fn provider(section: &mut Section, problems: &mut Problems) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(wanted) = section.texts("cipher_suites", problems).filter(|suites| !suites.value.is_empty()) {
        // As with other exporters, the list is about TLS 1.2; the suites of TLS 1.3 are all good and all stay.
        let (fixed, open): (Vec<_>, Vec<_>) =
            provider.cipher_suites.into_iter().partition(|suite| suite.tls13().is_some());
        provider.cipher_suites = fixed.clone();
        for At { line, value } in wanted.value {
            if let Some(suite) = open.iter().find(|suite| name(suite) == value) {
                provider.cipher_suites.push(*suite);
            } else if !fixed.iter().any(|suite| name(suite).replacen("TLS13_", "TLS_", 1) == value) {
                let known: Vec<_> = open.iter().map(name).collect();
                let text =
                    format!("tls_server_config.cipher_suites: unknown or unsafe suite; known: {}", known.join(", "));
                problems.add(line, text);
            }
        }
    }
    if let Some(wanted) = section.texts("curve_preferences", problems).filter(|curves| !curves.value.is_empty()) {
        provider.kx_groups.clear();
        for At { line, value } in wanted.value {
            let group: &'static dyn SupportedKxGroup = match &*value {
                "X25519" => ring::kx_group::X25519,
                "CurveP256" => ring::kx_group::SECP256R1,
                "CurveP384" => ring::kx_group::SECP384R1,
                _ => {
                    problems.add(
                        line,
                        "tls_server_config.curve_preferences: only X25519, CurveP256 and CurveP384 are supported",
                    );
                    continue;
                }
            };
            provider.kx_groups.push(group);
        }
    }
    provider
}

fn name(suite: &SupportedCipherSuite) -> &'static str {
    suite.suite().as_str().unwrap_or_default()
}
