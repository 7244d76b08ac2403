//! What connections are accepted with: certificate, key and rules. Can be replaced while the server runs.

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, AtomicU64, Ordering},
};
use x509_cert::{Certificate, der::Decode as _, time::Time};

/// The texts TLS is made from.
#[derive(Clone, Debug)]
pub struct Material {
    /// The server's certificate first, then those between it and a root, in PEM.
    pub cert_pem: Vec<u8>,
    /// The private key of the first certificate: PKCS #8, PKCS #1 or SEC1, in PEM.
    pub key_pem: Vec<u8>,
    /// Clients must show a certificate that one of these signed.
    pub client_ca_pem: Option<Vec<u8>>,
    /// Nothing below TLS 1.3.
    pub only_tls13: bool,
    /// What is spoken inside, by its name in ALPN. Who offers other names only is refused.
    pub protocol: &'static str,
}

/// Material that cannot be used: the option to blame, without its section, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub option: &'static str,
    pub reason: String,
}

impl Unusable {
    pub fn new(option: &'static str, reason: impl Into<String>) -> Self {
        Self { option, reason: reason.into() }
    }
}

/// Material that is fit for use.
#[derive(Clone, Debug)]
pub struct Ready {
    config: Arc<ServerConfig>,
    /// Until when the certificate is valid, in seconds since 1970.
    pub until: i64,
}

impl Ready {
    /// Checks that certificate and key belong together and are valid `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Which part cannot be used, and why.
    pub fn new(material: &Material, now: i64) -> Result<Self, Unusable> {
        let chain = certificates("cert_pem", &material.cert_pem)?;
        let key = private_key(&material.key_pem)?;
        let (from, until) = chain
            .first()
            .and_then(|first| validity(first))
            .ok_or_else(|| Unusable::new("cert_pem", "its first certificate cannot be read"))?;
        if until <= now {
            return Err(Unusable::new("cert_pem", format!("expired {}", ago(now - until))));
        }
        if from > now {
            return Err(Unusable::new("cert_pem", format!("is valid only {} from now", span(from - now))));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] =
            if material.only_tls13 { &[&TLS13] } else { &[&TLS12, &TLS13] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| Unusable::new("min_version", error.to_string()))?;
        let builder = match &material.client_ca_pem {
            None => builder.with_no_client_auth(),
            Some(pem) => builder.with_client_cert_verifier(client_verifier(pem, provider)?),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| Unusable::new("key_pem", format!("does not go with cert_pem ({error})")))?;
        config.alpn_protocols = vec![material.protocol.as_bytes().to_vec()];
        // Sessions are resumed by tickets the client keeps: whoever comes back in a storm costs no signature and
        // no memory. With a new certificate come new ticket keys: nobody resumes past a changed client CA.
        config.ticketer = aws_lc_rs::Ticketer::new()
            .map_err(|error| Unusable::new("enabled", format!("there are no keys for tickets ({error})")))?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), until })
    }
}

fn client_verifier(
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Unusable> {
    let wrong = |error: String| Unusable::new("client_ca_pem", error);
    let mut roots = RootCertStore::empty();
    for root in certificates("client_ca_pem", pem)? {
        roots.add(root).map_err(|error| wrong(format!("cannot be used ({error})")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| wrong(error.to_string()))
}

fn certificates(option: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let blocks =
        pem::parse_many(text).map_err(|error| Unusable::new(option, format!("is no PEM ({error})")))?;
    let ours = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let certificates: Vec<_> = ours.map(|block| CertificateDer::from(block.into_contents())).collect();
    if certificates.is_empty() {
        Err(Unusable::new(option, "holds no certificate"))
    } else {
        Ok(certificates)
    }
}

/// From and until when a certificate in DER is valid, in seconds since 1970. `None`: it cannot be read.
fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let validity = Certificate::from_der(der).ok()?.tbs_certificate.validity;
    let seconds = |time: Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
    Some((seconds(validity.not_before)?, seconds(validity.not_after)?))
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    let wrong = |reason: &str| Unusable::new("key_pem", reason);
    // What the parser says could repeat a part of the key.
    let blocks = pem::parse_many(text).map_err(|_| wrong("is no PEM"))?;
    let key: Option<PrivateKeyDer<'static>> = blocks.into_iter().find_map(|block| match block.tag() {
        "PRIVATE KEY" => Some(PrivatePkcs8KeyDer::from(block.into_contents()).into()),
        "RSA PRIVATE KEY" => Some(PrivatePkcs1KeyDer::from(block.into_contents()).into()),
        "EC PRIVATE KEY" => Some(PrivateSec1KeyDer::from(block.into_contents()).into()),
        _ => None,
    });
    key.ok_or_else(|| wrong("holds no private key, or one with a pass phrase: that must be taken off first"))
}

fn ago(seconds: i64) -> String {
    format!("{} ago", span(seconds))
}

fn span(seconds: i64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Shared by all cores, or by those who serve another port; looked at once per connection.
#[derive(Debug)]
pub struct Acceptor {
    config: RwLock<Arc<ServerConfig>>,
    until: AtomicI64,
    reloads: AtomicU64,
    reloads_failed: AtomicU64,
}

impl Acceptor {
    #[must_use]
    pub fn new(ready: Ready) -> Self {
        Self {
            config: RwLock::new(ready.config),
            until: ready.until.into(),
            reloads: 0.into(),
            reloads_failed: 0.into(),
        }
    }

    /// Connections accepted from now on use this; those there are stay as they are.
    pub fn replace(&self, ready: Ready) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = ready.config;
        self.until.store(ready.until, Ordering::Relaxed);
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    /// A replacement was asked for and could not be had.
    pub fn note_failed_reload(&self) {
        self.reloads_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// What the next connection is to be accepted with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn until(&self) -> u64 {
        u64::try_from(self.until.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Good and failed ones.
    pub(super) fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.reloads_failed.load(Ordering::Relaxed))
    }
}
