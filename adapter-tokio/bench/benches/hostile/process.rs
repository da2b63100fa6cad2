//! Each who takes part is a process of its own, which is this program started again: what it costs to attack, or to be
//! attacked, is not another one's. The victim has a core for itself, and the others have the other one.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

/// In the environment of a process: who it is, and the members' addresses.
const ROLE: &str = "HOSTILE_BENCH_ROLE";
const ADDRESSES: &str = "HOSTILE_BENCH_ADDRESSES";

/// Whether only addresses of members begin handshakes.
const FILTER: &str = "HOSTILE_BENCH_FILTER";

/// The core of the victim, and that of all others.
const CORES: [usize; 2] = [0, 1];

/// Who attacks shares a core with honest members, which have a machine of their own where it matters. So it runs when
/// they do not.
const IDLE: [&str; 3] = ["chrt", "--idle", "0"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Victim,
    /// A member that attacks.
    Member,
    /// An attacker that is no member.
    Stranger,
    /// The honest members that are not attacked, and whoever measures.
    Honest,
}

impl Role {
    /// Of this process.
    pub(crate) fn own() -> Self {
        let name = env::var(ROLE).unwrap_or_default();
        let roles = [Self::Victim, Self::Member, Self::Stranger];
        roles.into_iter().find(|role| role.name() == name).unwrap_or(Self::Honest)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Member => "member",
            Self::Stranger => "stranger",
            Self::Honest => "honest",
        }
    }

    /// Keeps this process to its core, if there are several.
    pub(crate) fn take_core(self) {
        let core = CORES[usize::from(self != Self::Victim)];
        if !take_core(core) {
            eprintln!("core {core} cannot be had, so that one who works takes time from others");
        }
    }
}

#[cfg(target_os = "linux")]
fn take_core(core: usize) -> bool {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn take_core(_: usize) -> bool {
    false
}

/// The members' addresses, in the order of their ids.
pub(crate) fn addresses() -> Vec<SocketAddr> {
    let addresses = env::var(ADDRESSES).expect("whoever starts it says");
    addresses.split(',').map(|address| address.parse().expect("an address")).collect()
}

pub(crate) fn filters_addresses() -> bool {
    env::var_os(FILTER).is_some()
}

/// Another process, which ends when its standard input does.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn start(
        role: Role,
        runtime: &str,
        addresses: &[SocketAddr],
        filters_addresses: bool,
    ) -> Self {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let own = env::current_exe().expect("this bench is a file");
        let has_idle = || Command::new(IDLE[0]).arg("--version").output().is_ok();
        let mut command = if role != Role::Victim && has_idle() {
            let mut command = Command::new(IDLE[0]);
            command.args(&IDLE[1..]).arg(own);
            command
        } else {
            Command::new(own)
        };
        command.args(["--runtime", runtime]).env(ROLE, role.name());
        command.env(ADDRESSES, addresses.join(","));
        if filters_addresses {
            command.env(FILTER, "");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("it starts"))
    }

    /// What it says.
    pub(crate) fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().expect("piped")).lines()
    }

    pub(crate) fn say(&mut self, line: &str) {
        let input = self.0.stdin.as_mut().expect("it is not told to end");
        writeln!(input, "{line}").expect("it has not ended");
    }

    /// Tells it to end.
    pub(crate) fn hang_up(&mut self) {
        drop(self.0.stdin.take());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) {
        self.hang_up();
        assert!(self.0.wait().expect("it has ended").success(), "it has remained a peer");
    }
}
