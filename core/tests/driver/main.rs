//! The driver over plain memory: see `memory`.

mod closing;
mod full_socket;
mod memory;
mod pauses;
mod socket_errors;
mod subnet;
mod turns;
