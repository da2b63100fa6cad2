//! What a member has used of what it may cause this node. It is the member's, not the connection's: who connects again goes
//! on with what it had left, and does not begin anew.
//!
//! The link in use has it, since that is where it is needed with each piece that is read. Between two connections it is
//! with the member, and it ends when the member leaves. Of several links of a member only the one in use reads more
//! than a hello.

use std::boxed::Box;

use super::link::Lane;
use super::share::Share;
use crate::sched::QuotaMeter;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Of this node's work, by [`Lane`].
    pub(super) shares: [Share; Lane::ALL.len()],
    /// Pieces of work that have brought nothing, and are not among the peer's fruitless ones yet.
    pub(super) excess: i64,
    /// Of each channel that has a quota, in their order. Before the first connection there are none.
    pub(super) quotas: Box<[QuotaMeter]>,
}
