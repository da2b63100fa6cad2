//! What `slotcast-sim` and the tests of this workspace need of the inside of this crate, beside the
//! methods of [`Node`](crate::node::Node) in `node/inspect.rs`.
//!
//! **Not covered by semantic versioning**: any release may change or remove any of this.

use crate::config::ChannelConfig;
use crate::wire::ChannelHello;

pub use crate::node::OpenConnection;
pub use crate::node::crypto::{
    ALPN, HandshakeCrypto, Members, Provider, SERVER_NAME, Tls, peer_id, spki,
};
pub use crate::node::quic::{endpoint_config, server_config};
pub use crate::random::Random;
pub use crate::wire::call::FrameReader;

/// Numbers of frames.
pub mod kind {
    pub use crate::wire::kind::*;
}

/// What a node tells its peers of a channel.
pub fn channel_hello(config: &ChannelConfig) -> ChannelHello {
    crate::node::channel_hello(config)
}
