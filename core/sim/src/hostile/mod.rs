//! Members that break the rules on purpose.
//!
//! `bare` is QUIC with a member's key and nothing more. [`Byzantine`] drives one: it says hello like
//! anybody, publishes now and then, and in between plays the [`Trick`]s that it was given. `acts` has
//! a function for each of them, `claims` those that play with artifacts, `withhold` those
//! that play with parts of them, and `frames` and `forge` the
//! bytes that are written for them. `heard` is what it learns by listening, `offers` how it answers
//! requests, and `talk` what goes on over one connection.

mod acts;
pub mod bare;
mod byzantine;
mod claims;
mod forge;
pub mod frames;
mod heard;
mod offers;
mod talk;
#[cfg(test)]
mod tests;
mod trick;
mod withhold;

pub use byzantine::Byzantine;
pub use trick::{Tally, Trick};
