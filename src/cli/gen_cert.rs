//! `corecast gen-cert`: a certificate that signs itself, to try TLS with.

use super::{Failure, print};
use crate::wire::x509::{SelfSigned, signed};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

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
    let made = make(&args.host, args.days).ok_or_else(|| Failure::Run("the key could not be made".into()))?;
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
pub fn make(hosts: &[String], days: u32) -> Option<Made> {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).ok()?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).ok()?;
    let mut serial = [0; 8];
    getrandom::fill(&mut serial).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs().cast_signed();
    let to_be_signed = SelfSigned {
        names: hosts,
        serial: u64::from_be_bytes(serial),
        from: now - 86_400,
        until: now + i64::from(days) * 86_400,
        public_key: key.public_key().as_ref(),
    }
    .to_be_signed();
    let signature = key.sign(&random, &to_be_signed).ok()?;
    let pem = |tag: &str, bytes: Vec<u8>| pem::encode(&pem::Pem::new(tag, bytes));
    Some(Made {
        cert_pem: pem("CERTIFICATE", signed(&to_be_signed, signature.as_ref())),
        key_pem: pem("PRIVATE KEY", pkcs8.as_ref().to_vec()),
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Failure::Write)
}
