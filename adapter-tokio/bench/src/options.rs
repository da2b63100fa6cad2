//! The command line, which is the same for all benches.

use clap::{Parser, ValueEnum};

/// Benches of slotcast on loopback. A bench ignores the options that it has no use for.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// What the nodes run under.
    #[arg(long, value_enum, default_value = "tokio")]
    pub runtime: Choice,
    /// Length of each run.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Runs of each system and load.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Only the loads whose name contains this.
    #[arg(long, default_value = "")]
    pub only: String,
    /// Only the systems whose name contains this.
    #[arg(long, default_value = "")]
    pub system: String,
    /// UDP payload of the longest datagram.
    #[arg(long, default_value_t = 1452)]
    pub mtu: u16,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The runtimes to run a bench under.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Choice {
    /// tokio, with a thread per core.
    Tokio,
    /// smol's global executor, with a thread per core.
    Smol,
    /// One after the other.
    Both,
}

impl Choice {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::Both => "both",
        }
    }
}
