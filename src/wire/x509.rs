//! Certificates (RFC 5280): until when one is valid, and the bytes of one that signs itself with ECDSA on P-256.

use std::net::IpAddr;

// Tags of DER.
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const DAY: i64 = 86_400;

/// From and until when a certificate in DER is valid, in seconds since 1970. `None`: it is no certificate.
#[must_use]
pub fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if let Some((_, rest)) = value(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = value(fields, tag)?;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (from, rest) = time(validity)?;
    let (until, _) = time(rest)?;
    Some((from, until))
}

/// What a self-signed certificate says.
#[derive(Clone, Copy, Debug)]
pub struct SelfSigned<'a> {
    /// Host names and IP addresses; the first is its subject too.
    pub names: &'a [String],
    pub serial: u64,
    /// Seconds since 1970.
    pub from: i64,
    pub until: i64,
    /// A point on P-256, uncompressed: 65 bytes.
    pub public_key: &'a [u8],
}

impl SelfSigned<'_> {
    /// What has to be signed.
    #[must_use]
    pub fn to_be_signed(&self) -> Vec<u8> {
        let name = self.names.first().map_or("corecast", String::as_str);
        let name = tagged(UTF8, &[name.as_bytes()]);
        let subject =
            tagged(SEQUENCE, &[&tagged(SET, &[&tagged(SEQUENCE, &[&tagged(OID, &[COMMON_NAME]), &name])])]);
        let curve = tagged(SEQUENCE, &[&tagged(OID, &[EC_PUBLIC_KEY]), &tagged(OID, &[P256])]);
        let names: Vec<u8> = self.names.iter().flat_map(|name| alternative(name)).collect();
        let names = tagged(OCTET_STRING, &[&tagged(SEQUENCE, &[&names])]);
        let extension = tagged(SEQUENCE, &[&tagged(OID, &[SUBJECT_ALT_NAME]), &names]);
        tagged(
            SEQUENCE,
            &[
                // Version 3.
                &tagged(VERSION, &[&tagged(INTEGER, &[&[2]])]),
                // Never negative.
                &tagged(INTEGER, &[&[1], &self.serial.to_be_bytes()]),
                &algorithm(),
                &subject,
                &tagged(SEQUENCE, &[&timestamp(self.from), &timestamp(self.until)]),
                &subject,
                &tagged(SEQUENCE, &[&curve, &tagged(BIT_STRING, &[&[0], self.public_key])]),
                &tagged(EXTENSIONS, &[&tagged(SEQUENCE, &[&extension])]),
            ],
        )
    }
}

/// The certificate in DER: what [`SelfSigned::to_be_signed`] answered, with its signature (ECDSA with SHA-256, in DER).
#[must_use]
pub fn signed(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    tagged(SEQUENCE, &[to_be_signed, &algorithm(), &tagged(BIT_STRING, &[&[0], signature])])
}

fn algorithm() -> Vec<u8> {
    tagged(SEQUENCE, &[&tagged(OID, &[ECDSA_WITH_SHA256])])
}

fn alternative(name: &str) -> Vec<u8> {
    match name.parse() {
        Ok(IpAddr::V4(ip)) => tagged(IP_ADDRESS, &[&ip.octets()]),
        Ok(IpAddr::V6(ip)) => tagged(IP_ADDRESS, &[&ip.octets()]),
        Err(_) => tagged(DNS_NAME, &[name.as_bytes()]),
    }
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(len as u8),
        _ => {
            let bytes = len.to_be_bytes();
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            out.push(0x80 | (bytes.len() - zeros) as u8);
            out.extend_from_slice(&bytes[zeros..]);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// The contents of the value at the front, which must have this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |len, &byte| len << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(len)).flatten()
}

/// `YYMMDDHHMMSSZ` before 2050, `YYYYMMDDHHMMSSZ` from then on.
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest, century) = match value(der, UTC_TIME) {
        Some((text, rest)) => (text, rest, None),
        None => {
            let (text, rest) = value(der, GENERALIZED_TIME)?;
            let (century, text) = text.split_at_checked(2)?;
            (text, rest, Some(digits(century)?))
        }
    };
    let [fields @ .., b'Z'] = text else { return None };
    if fields.len() != 12 {
        return None;
    }
    let mut fields = fields.chunks(2).map(digits);
    let mut next = || fields.next().flatten();
    let of_century = next()?;
    let year = match century {
        Some(century) => century * 100 + of_century,
        None if of_century < 50 => 2000 + of_century,
        None => 1900 + of_century,
    };
    let (month, day) = (next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = next()? * 3600 + next()? * 60 + next()?;
    Some((days_before(year, month) * DAY + (day - 1) * DAY + seconds, rest))
}

fn digits(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok().filter(|it| it.bytes().all(|it| it.is_ascii_digit()))?.parse().ok()
}

/// Days from 1970 to the first of a month, counted from March of year 0, so that leap days come last.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * from_march + 2) / 5
        - 719_468
}

fn timestamp(seconds: i64) -> Vec<u8> {
    let (day, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Leap days left aside: too late after 1970, and a year too early before.
    let mut year = 1971 + day.div_euclid(365);
    while days_before(year, 1) > day {
        year -= 1;
    }
    let month = (1..=12).rev().find(|&month| days_before(year, month) <= day).unwrap_or(1);
    let of_month = day - days_before(year, month) + 1;
    let rest =
        format!("{month:02}{of_month:02}{:02}{:02}{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60);
    match year {
        1950..2050 => tagged(UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()]),
        _ => tagged(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: i64, until: i64) -> Vec<u8> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let made = SelfSigned { names: &names, serial: u64::MAX, from, until, public_key: &[4; 65] };
        signed(&made.to_be_signed(), &[7; 70])
    }

    #[test]
    fn times() {
        for (seconds, text) in [
            (-599_441_022, "510103003618Z"),
            (0, "700101000000Z"),
            (951_827_696, "000229123456Z"),
            (1_709_164_799, "240228235959Z"),
            (2_524_607_999, "491231235959Z"),
            (2_524_608_000, "20500101000000Z"),
            (253_402_300_799, "99991231235959Z"),
        ] {
            let der = timestamp(seconds);
            assert_eq!(std::str::from_utf8(&der[2..]).unwrap(), text);
            assert_eq!(time(&der), Some((seconds, &[][..])), "{text}");
        }
        for wrong in [
            "700101000000",
            "7001010000Z",
            "701301000000Z",
            "700132000000Z",
            "70010100000xZ",
            "+00101000000Z",
        ] {
            assert_eq!(time(&tagged(UTC_TIME, &[wrong.as_bytes()])), None, "{wrong}");
        }
    }

    #[test]
    fn any_validity_reads_back() {
        arbtest::arbtest(|u| {
            let from = u.int_in_range(-631_152_000..=253_402_300_799i64)?;
            let until = u.int_in_range(-631_152_000..=253_402_300_799i64)?;
            assert_eq!(validity(&certificate(from, until)), Some((from, until)));
            Ok(())
        });
    }

    #[test]
    fn no_bytes_panic() {
        let good = certificate(0, 1);
        for len in 0..good.len() {
            let _ = validity(&good[..len]);
        }
        arbtest::arbtest(|u| {
            let mut bytes = good.clone();
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = u.arbitrary()?;
            }
            let _ = validity(&bytes);
            Ok(())
        });
    }
}
