//! How channels and routes are read: what is not given has its default, unknown fields are refused.

use alloc::string::String;

use serde::{Deserialize, Deserializer};

use super::span::Span;
use super::{ChannelConfig, Class, Freshness, Order, Quota, Relay, RouteConfig};
use crate::id::{ChannelId, RouteId};

/// Reads a struct some of whose fields have no default. Of the others, those that are given replace the
/// defaults.
macro_rules! with_defaults {
    (
        $config:ident = new($($required:ident: $needed:ty),*) {
            $($field:ident: $kind:ty,)*
        }
    ) => {
        impl<'de> Deserialize<'de> for $config {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct $config {
                    $($required: $needed,)*
                    $(#[serde(default, deserialize_with = "given")] $field: Option<$kind>,)*
                }
                let read = $config::deserialize(from)?;
                let mut config = super::$config::new($(read.$required),*);
                $(if let Some(value) = read.$field {
                    config.$field = value.into();
                })*
                Ok(config)
            }
        }
    };
}

/// A value that is there. In formats without names of fields, all are: they have no mark of those that are
/// missing.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

with_defaults! {
    ChannelConfig = new(id: ChannelId) {
        class: Class,
        slots_max: u32,
        relay_slots_max: u32,
        active_bytes_max: u64,
        artifact_bytes_max: u64,
        push_bytes_max: u32,
        latency_sensitive: bool,
        inbox_bytes_max: u64,
        relay: Relay,
        relay_hops_max: u8,
        spread_bytes_min: u64,
        freshness: Freshness,
        order: Order,
        clear_delay: Span,
        tells_withdrawals: bool,
        sender_matters: bool,
        quota: Option<Quota>,
    }
}

with_defaults! {
    RouteConfig = new(id: RouteId, name: String) {
        class: Class,
        request_bytes_max: u32,
        response_bytes_max: u32,
        serves: bool,
        reads_in_parts: bool,
        in_flight_max: u16,
        waiting_max: u16,
        deadline: Span,
        deadline_max: Span,
        body_bytes_max: u64,
        rate_min: u32,
    }
}
