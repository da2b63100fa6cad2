//! Calls at the level of the pure machine ([`slotcast::rpc::Rpc`]): no QUIC, no clock. [`web`] joins
//! machines by streams in memory, in [`solo`] the test plays the peers of one machine byte by byte.

mod solo;
mod tells;
mod web;

mod answer_room;
mod budgets;

mod credit;
mod deadlines;
mod errors;
mod fairness;
mod lifecycle;
mod links;
mod malformed;
mod parts;
mod phases;
mod rate;
mod serving;
mod wire;
