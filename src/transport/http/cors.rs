//! Which pages of other origins may ask, and the header fields that tell their browsers so.

use super::response::{Fields, Response};
use crate::wire::http::Request;

/// How long a browser may believe what it was told, in seconds.
const MAX_AGE: &str = "300";

/// For the response to a page whose origin is allowed; nothing for who is no browser.
pub fn fields(request: &Request<'_, '_>) -> Fields {
    let Some(origin) = request.header("origin") else { return Fields::new() };
    let mut fields: Fields = vec![
        ("Access-Control-Allow-Origin", origin.to_owned().into()),
        ("Access-Control-Allow-Credentials", "true".into()),
        ("Vary", "Origin".into()),
    ];
    if let Some(headers) = request.header("access-control-request-headers") {
        fields.push(("Access-Control-Allow-Headers", headers.to_owned().into()));
    }
    fields
}

/// The answer to what a browser asks before the request itself.
pub fn preflight(cors: &Fields, methods: &'static str) -> Response {
    Response::new(204, "", Vec::new())
        .with_fields(cors)
        .with(&[("Access-Control-Allow-Methods", methods), ("Access-Control-Max-Age", MAX_AGE)])
}
