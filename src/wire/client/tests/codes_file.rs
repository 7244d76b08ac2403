//! `schema/codes.md` and the numbers of the server say the same.

use crate::model::{Disconnect, ErrorCode, Unsubscribe};

const FILE: &str = include_str!("../../../../schema/codes.md");

#[track_caller]
fn row(start: &str) {
    assert!(FILE.lines().any(|line| line.starts_with(start)), "no row {start:?}");
}

#[test]
fn every_code_has_its_row() {
    use ErrorCode as E;
    let errors = [
        E::Internal,
        E::Unauthorized,
        E::UnknownChannel,
        E::PermissionDenied,
        E::MethodNotFound,
        E::AlreadySubscribed,
        E::LimitExceeded,
        E::BadRequest,
        E::NotAvailable,
        E::TokenExpired,
        E::Expired,
        E::TooManyRequests,
        E::UnrecoverablePosition,
        E::ConcurrentPagination,
    ];
    for error in errors {
        let temporary = if error.temporary() { "yes " } else { "" };
        row(&format!("| {} | {} | {temporary}|", error.code(), error.message()));
    }
    use Disconnect as D;
    let disconnects = [
        D::CONNECTION_CLOSED,
        D::SHUTDOWN,
        D::INTERNAL,
        D::EXPIRED,
        D::SUBSCRIPTION_EXPIRED,
        D::SLOW,
        D::WRITE_ERROR,
        D::INSUFFICIENT_STATE,
        D::FORCE_RECONNECT,
        D::NO_PONG,
        D::TOO_MANY_REQUESTS,
        D::INVALIDATED,
        D::INVALID_TOKEN,
        D::BAD_REQUEST,
        D::STALE,
        D::FORCE,
        D::CONNECTION_LIMIT,
        D::CHANNEL_LIMIT,
        D::INAPPROPRIATE_PROTOCOL,
        D::PERMISSION_DENIED,
        D::NOT_AVAILABLE,
    ];
    for disconnect in disconnects {
        let reconnects = if disconnect.code < 3500 { "yes" } else { "no" };
        row(&format!("| {} | {} | {reconnects}", disconnect.code, disconnect.reason));
    }
    use Unsubscribe as U;
    for it in [U::SERVER, U::INSUFFICIENT_STATE, U::EXPIRED, U::INVALIDATED] {
        row(&format!("| {} | {} |", it.code, it.reason));
    }
}
