//! The stream of a client's connection, plain or TLS, and whom TLS trusts.

use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned, WantsVerifier,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

#[derive(Debug)]
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    /// `host` may have a port; a name is told to the server.
    ///
    /// # Errors
    /// TLS cannot be set up at all.
    pub fn tls(stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, stream))))
    }

    /// Waits for the end of the handshake; the stream must block.
    ///
    /// # Errors
    /// What the handshake failed of.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) if tls.conn.is_handshaking() => tls.conn.complete_io(&mut tls.sock).map(|_| ()),
            Self::Plain(_) | Self::Tls(_) => Ok(()),
        }
    }

    pub fn stream(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// A read that did not fill the buffer has emptied the socket.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

/// Where Linux systems keep the certificates they trust.
const SYSTEM: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Trusts the certificates in a file of PEM, or without one those the system trusts.
///
/// # Errors
/// There is no such file, or no certificate in it.
pub fn trusting(file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let system = || SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let text = match file.or_else(system) {
        Some(path) => std::fs::read(path)?,
        None => Vec::new(),
    };
    let mut roots = RootCertStore::empty();
    let blocks = pem::parse_many(text).map_err(io::Error::other)?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    roots.add_parsable_certificates(certificates.map(|block| block.into_contents().into()));
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no certificate to trust"));
    }
    Ok(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth()))
}

/// Believes any certificate: for measuring.
///
/// # Errors
/// TLS cannot be set up at all.
pub fn anybody() -> io::Result<Arc<ClientConfig>> {
    let anybody = Arc::new(Anybody(Arc::new(aws_lc_rs::default_provider())));
    Ok(Arc::new(builder()?.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()))
}

/// The same, and every connection is a stranger to the server: no session is taken up again.
///
/// # Errors
/// TLS cannot be set up at all.
pub fn strangers() -> io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::clone(&*anybody()?);
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn builder() -> io::Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
