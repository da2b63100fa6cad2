//! Drivers and handles: what handles know before the node does, what waits for the application, and
//! who is woken when. One thread, datagrams in memory, and a clock that the test moves: a future that
//! is not woken is not polled.

mod bench;
mod cancelled_requests;
mod endings;
mod full_socket;
mod io;
mod mirrors;
mod rooms;
mod stages;
