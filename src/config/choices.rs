//! Options that are a choice among a few; `values` has their words.

/// What may be published into a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFormat {
    /// Anything but nothing.
    Any,
    Json,
    JsonObject,
    /// Anything.
    Binary,
}

/// What the channels of a namespace are; numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionType {
    Stream = 0,
    Map = 1,
    MapClients = 2,
    MapUsers = 3,
    SharedPoll = 4,
}

impl SubscriptionType {
    /// Channels of it are maps.
    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(self, Self::Map | Self::MapClients | Self::MapUsers)
    }
}

/// How a change of a shared poll's data is told from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// By the data.
    Versionless,
    /// By what the backend says.
    Versioned,
}

/// How long a map keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapMode {
    /// No map.
    None,
    Ephemeral,
    Recoverable,
    Persistent,
}

/// Which entry of a map a client may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKey {
    /// The one it names.
    Named,
    ClientId,
    UserId,
}

/// Whether clients may speak version 1 of the protocol, and how those are told positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolV1 {
    Off,
    Offset,
    SeqGen,
}

/// What recovery brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryMode {
    /// What was missed.
    Stream,
    /// The latest publication.
    Cache,
}
