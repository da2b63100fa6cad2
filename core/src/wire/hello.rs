//! Hello: what a node says of itself first. Nothing else is accepted or sent before.

use alloc::vec::Vec;

use super::{
    Fields, Malformed, StreamHead, VARINT_MAX, kind, put_frame_start, put_varint, varint_len,
};
use crate::id::{ChannelId, RouteId};

/// The minor version that this crate speaks. A higher one only adds what an older node may skip: 1 added
/// artifacts with keys, and channels where the sender matters.
pub const MINOR: u64 = 1;

/// Channels that a hello may name; a node has no more.
pub const CHANNELS_MAX: usize = 64;

/// Routes that a hello may name; a node has no more.
pub const ROUTES_MAX: usize = 64;

/// Bytes of a hello stream that a node reads. More is a fault.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

/// The flag of a route whose node understands credit for a part of a body.
const KNOWS_GRANTS: u64 = 1;

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// The highest minor version that it speaks.
    pub minor: u64,
    /// A number that differs whenever the process has lost its state.
    pub incarnation: u64,
    /// Its channels, each once.
    pub channels: Vec<ChannelHello>,
    /// Its routes, each once.
    pub routes: Vec<RouteHello>,
    /// The quotas of its channels, each once at most. An older node does not say.
    pub quotas: Vec<QuotaHello>,
}

/// A channel as its node has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelHello {
    /// The channel.
    pub id: ChannelId,
    /// The number of slots of a peer that it keeps. A higher slot is a fault.
    pub slots_max: u32,
    /// The longest artifact that it takes, in bytes.
    pub artifact_bytes_max: u64,
    /// The longest push that it takes, in bytes.
    pub push_bytes_max: u32,
    /// The most hops from its publisher that an advert may have come.
    pub relay_hops_max: u8,
    /// Ids of artifacts cover their publishers. Such a channel is told of in a frame of a kind of its
    /// own, so that to a node of minor version 0 it is not there.
    pub sender_matters: bool,
}

/// How much a node takes of each peer in a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotaHello {
    /// The channel.
    pub channel: ChannelId,
    /// Updates in a second. 0 counts as 1.
    pub updates_per_second: u32,
    /// Bytes in a second, of updates and chunks. 0 counts as 1.
    pub bytes_per_second: u32,
    /// Milliseconds: as much may come at once as in so much time.
    pub burst_ms: u32,
}

/// A route as its node has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteHello {
    /// The route.
    pub id: RouteId,
    /// The longest request that it accepts, in bytes. A longer one is a fault.
    pub request_bytes_max: u32,
    /// The longest answer that it accepts, in bytes. A longer one is a fault.
    pub response_bytes_max: u32,
    /// Requests of a peer that it has under way at once; 0, if it only calls.
    pub in_flight_max: u16,
    /// Bytes of a peer's requests for which it has room at once, but for one request of any length that
    /// it accepts, at most 2^62 - 1. An older node does not say, and decodes as that.
    pub in_flight_bytes_max: u64,
    /// It understands credit for a part of a body ([`Reply::Grant`](super::Reply::Grant)). An older node does
    /// not say so.
    pub knows_grants: bool,
}

impl ChannelHello {
    /// Whether a node with these bounds takes all that one with the `sender`'s may send. If not, the
    /// sender keeps silent on the channel.
    pub fn takes_all_of(&self, sender: &Self) -> bool {
        self.id == sender.id && self.obstacle(sender).is_none()
    }

    /// The first value for which a node with these bounds does not take all that the `sender` of the same
    /// channel may send, by its name in the configuration.
    pub(crate) fn obstacle(&self, sender: &Self) -> Option<&'static str> {
        let suits = [
            (self.sender_matters == sender.sender_matters, "sender_matters"),
            (self.slots_max >= sender.slots_max, "slots_max"),
            (self.artifact_bytes_max >= sender.artifact_bytes_max, "artifact_bytes_max"),
            (self.push_bytes_max >= sender.push_bytes_max, "push_bytes_max"),
            (self.relay_hops_max >= sender.relay_hops_max, "relay_hops_max"),
        ];
        suits.into_iter().find(|(suits, _)| !suits).map(|(_, name)| name)
    }
}

impl Hello {
    /// Appends the whole stream: head and fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        StreamHead::Hello.encode(out);
        put_frame_start(out, kind::HELLO_MINOR, varint_len(self.minor));
        put_varint(out, self.minor);
        put_frame_start(out, kind::HELLO_INCARNATION, 8);
        out.extend_from_slice(&self.incarnation.to_be_bytes());
        for channel in &self.channels {
            let numbers = [
                channel.id.0.into(),
                channel.slots_max.into(),
                channel.artifact_bytes_max,
                channel.push_bytes_max.into(),
                channel.relay_hops_max.into(),
            ];
            let fields = numbers.iter().map(|number| varint_len(*number)).sum();
            let kind = match channel.sender_matters {
                true => kind::HELLO_SENDER_CHANNEL,
                false => kind::HELLO_CHANNEL,
            };
            put_frame_start(out, kind, fields);
            numbers.iter().for_each(|number| put_varint(out, *number));
        }
        for quota in &self.quotas {
            let numbers = [
                quota.channel.0.into(),
                quota.updates_per_second.into(),
                quota.bytes_per_second.into(),
                quota.burst_ms.into(),
            ];
            let fields = numbers.iter().map(|number| varint_len(*number)).sum();
            put_frame_start(out, kind::HELLO_QUOTA, fields);
            numbers.iter().for_each(|number| put_varint(out, *number));
        }
        for route in &self.routes {
            let numbers = [
                route.id.0.into(),
                route.request_bytes_max.into(),
                route.response_bytes_max.into(),
                route.in_flight_max.into(),
                route.in_flight_bytes_max.min(VARINT_MAX),
                KNOWS_GRANTS,
            ];
            // Flags are sent if there are any.
            let numbers = &numbers[..if route.knows_grants { 6 } else { 5 }];
            let fields = numbers.iter().map(|number| varint_len(*number)).sum();
            put_frame_start(out, kind::HELLO_ROUTE, fields);
            numbers.iter().for_each(|number| put_varint(out, *number));
        }
    }

    /// Takes one frame of the hello stream. Unknown kinds, and what a later minor version appends
    /// to a known field, are passed over.
    ///
    /// # Errors
    /// If a field is malformed or occurs too often.
    pub fn decode_field(&mut self, kind: u64, body: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::new(body);
        match kind {
            kind::HELLO_MINOR => self.minor = fields.varint()?,
            kind::HELLO_INCARNATION => self.incarnation = u64::from_be_bytes(*fields.array()?),
            kind::HELLO_CHANNEL | kind::HELLO_SENDER_CHANNEL => {
                let channel = ChannelHello {
                    id: ChannelId(fields.small()?),
                    slots_max: fields.small()?,
                    artifact_bytes_max: fields.varint()?,
                    push_bytes_max: fields.small()?,
                    relay_hops_max: fields.small()?,
                    sender_matters: kind == kind::HELLO_SENDER_CHANNEL,
                };
                let known = self.channels.iter().any(|other| other.id == channel.id);
                if known || self.channels.len() == CHANNELS_MAX {
                    return Err(Malformed::Repeated);
                }
                self.channels.push(channel);
            }
            kind::HELLO_ROUTE => {
                let route = RouteHello {
                    id: RouteId(fields.small()?),
                    request_bytes_max: fields.small()?,
                    response_bytes_max: fields.small()?,
                    in_flight_max: fields.small()?,
                    in_flight_bytes_max: fields.varint_if_any()?.unwrap_or(VARINT_MAX),
                    knows_grants: fields.varint_if_any()?.unwrap_or(0) & KNOWS_GRANTS != 0,
                };
                let known = self.routes.iter().any(|other| other.id == route.id);
                if known || self.routes.len() == ROUTES_MAX {
                    return Err(Malformed::Repeated);
                }
                self.routes.push(route);
            }
            kind::HELLO_QUOTA => {
                let quota = QuotaHello {
                    channel: ChannelId(fields.small()?),
                    updates_per_second: fields.small()?,
                    bytes_per_second: fields.small()?,
                    burst_ms: fields.small()?,
                };
                let known = self.quotas.iter().any(|other| other.channel == quota.channel);
                if known || self.quotas.len() == CHANNELS_MAX {
                    return Err(Malformed::Repeated);
                }
                self.quotas.push(quota);
            }
            _ if kind::has_place(kind) => return Err(Malformed::Misplaced),
            _ => {}
        }
        Ok(())
    }
}
