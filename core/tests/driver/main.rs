//! Drivers and handles over plain memory, on one thread, with a clock that the test moves. A future
//! that is not woken is not polled, and nothing waits for anything but what is under test.

mod answer_room;
mod both_ways;
mod bounds;
mod cancelled_requests;
mod closing;
mod connected;
mod endings;
mod flushing;
mod full_socket;
mod handles;
mod keyed;
mod keys;
mod loopback;
mod metrics;
mod mirrors;
mod network;
mod occurrences;
mod parts;
mod pauses;
mod places;
mod questions;
mod rooms;
mod sender_matters;
mod snapshots;
mod socket_errors;
mod stages;
mod subnet;
mod tells;
mod tower;
mod turns;
mod waiting;
