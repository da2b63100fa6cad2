//! A guide for who embeds a node, in the order in which things are needed.
//!
//! It lives here and not in an adapter, since all but one line is the same under every runtime: what an
//! application has is a [`NodeHandle`](crate::driver::NodeHandle), whoever made it. The line that differs is `bind`
//! in `slotcast-tokio` and `slotcast-smol`.
//!
//! 1. [A first node](first_node)
//! 2. [Channels and filters](channels)
//! 3. [Aborting, keys, rounds](aborting)
//! 4. [Relaying and spreading](relaying)
//! 5. [Calls](calls)
//! 6. [Membership and keys of nodes](membership)
//! 7. [Limits, memory, overload](limits)
//! 8. [Tests in the simulator](testing)
//! 9. [Running it](running)
//! 10. [Writing an adapter](adapter)

#[doc = include_str!("first_node.md")]
pub mod first_node {}

#[doc = include_str!("channels.md")]
pub mod channels {}

#[doc = include_str!("aborting.md")]
pub mod aborting {}

#[doc = include_str!("relaying.md")]
pub mod relaying {}

#[doc = include_str!("calls.md")]
pub mod calls {}

#[doc = include_str!("membership.md")]
pub mod membership {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("running.md")]
pub mod running {}

#[doc = include_str!("adapter.md")]
pub mod adapter {}
