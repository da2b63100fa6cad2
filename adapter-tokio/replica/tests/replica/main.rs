//! The program: real processes on loopback, under both runtimes, as an operator uses them.

#![cfg(unix)]

mod configured;
mod harness;
mod http;
mod names;
mod operator;
mod stuck;
mod subnet;
mod traced;

// What the program makes of names. A program has no library that a test could use.
#[path = "../../src/name.rs"]
mod name;
