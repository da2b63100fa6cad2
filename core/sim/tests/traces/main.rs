//! What nodes trace (feature `tracing`): the way of an artifact, of a member, and why something is slow.

mod calls;
mod collector;
mod reasons;
mod ways;

#[path = "../calls/office.rs"]
#[allow(dead_code, reason = "shared with the test `calls`")]
mod office;
#[path = "../nodes/subnet.rs"]
#[allow(dead_code, reason = "shared with the test `nodes`")]
mod subnet;
