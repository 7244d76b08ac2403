//! `history`: the latest publications of a channel, or only its position.

use super::Step;
use crate::{
    broker::{
        core::Core,
        mesh::{Ask, HistoryFilter, Recover},
        pending::Pending,
        permission::Verb,
    },
    model::ConnKey,
    wire::client::{Dialect, HistoryRequest, v1::Positions},
};

impl Core {
    pub(super) fn history(&mut self, conn: ConnKey, id: u32, request: &HistoryRequest<'_>) -> Step {
        // Before there were limits, all was asked for.
        let all = request.limit == 0 && self.speaks(conn, Dialect::V1(Positions::SeqGen));
        let filter = HistoryFilter {
            limit: self.history_limit(if all { -1 } else { request.limit }),
            since: request
                .since
                .as_ref()
                .map(|since| Recover { offset: since.offset, epoch: (&*since.epoch).into() }),
            reverse: request.reverse,
        };
        self.ask_about(conn, id, &request.channel, Verb::History, |channel| {
            (Ask::History { channel, filter }, Pending::History { conn, id })
        })
    }

    /// A negative limit, or one above `client.history_max_publication_limit`, means as many as allowed.
    pub(in crate::broker) fn history_limit(&self, wanted: i32) -> usize {
        let most = self.settings.client.history_max_publication_limit;
        usize::try_from(wanted).map_or(most, |wanted| wanted.min(most))
    }
}
