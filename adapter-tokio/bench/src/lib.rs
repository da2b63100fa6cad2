//! What the benches have in common.

pub mod calls;
pub mod cpu;
pub mod plain;
pub mod runtime;
