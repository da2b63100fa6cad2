//! Attacks over real sockets: a member, or a stranger, that breaks the rules against nodes under both
//! runtimes, which have to go on as if nothing was.
//!
//! The attackers are those of `slotcast_testkit`, and speak the wire by hand (`words`); `arena` is
//! where they meet the honest members, whose `traffic` never ends. Each test is one attack, bounded in
//! count; what is waited for are events, and rounds of the honest members. The state machines' own
//! tests have the attacks in far more variants, without sockets.

mod arena;
mod calls;
mod hellos;
mod initials;
mod load;
mod strangers;
mod streams;
mod traffic;
mod words;
