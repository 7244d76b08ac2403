//! `corecast gen-cert`: a certificate that signs itself, to try TLS with.

use super::{Failure, print};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  corecast gen-cert --host localhost --host 127.0.0.1\n  \
                        corecast serve --dev --set http_server.tls.enabled=true --set http_server.tls.cert_pem=cert.pem \
                        --set http_server.tls.key_pem=key.pem\n\n\
                        For development and tests: clients must be told to trust it. ECDSA on P-256. Files that exist are written over.")]
pub struct Args {
    /// Host name or IP address it is for; several are possible
    #[arg(long, value_name = "NAME", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
    host: Vec<String>,
    /// Days it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(0..=36_500))]
    days: u32,
    /// Where the certificate is written, in PEM
    #[arg(long, value_name = "FILE", default_value = "cert.pem")]
    cert: PathBuf,
    /// Where the private key is written, in PEM
    #[arg(long, value_name = "FILE", default_value = "key.pem")]
    key: PathBuf,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let made = make(&args.host, args.days)
        .map_err(|error| Failure::Run(format!("the certificate could not be made: {error}")))?;
    write(&args.cert, &made.cert_pem, 0o644)?;
    write(&args.key, &made.key_pem, 0o600)?;
    print(&format!("{}\n{}\n", args.cert.display(), args.key.display()))
}

/// A certificate and its private key, in PEM.
pub struct Made {
    pub cert_pem: String,
    pub key_pem: String,
}

/// A certificate for these hosts, valid from a day ago for so many days from now.
///
/// # Errors
/// A name that no certificate can hold, or no randomness.
pub fn make(hosts: &[String], days: u32) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(hosts)?;
    if let Some(first) = hosts.first() {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::DAY;
    params.not_after = now + Duration::days(days.into());
    Ok(Made { cert_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Failure::Write)
}
