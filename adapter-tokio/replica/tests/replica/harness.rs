//! Processes of replicas, their folders and logs.
//!
//! Nothing here waits for a time to pass: what is waited for is a state of folders and logs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The program.
pub(crate) fn replica() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slotcast-replica"));
    command.stdin(Stdio::null());
    command
}

/// Polls until it is so.
pub(crate) fn wait_until(
    what: &str,
    mut is_so: impl FnMut() -> bool,
    evidence: impl Fn() -> String,
) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}\n{}", evidence());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder for one test, removed when the test has passed.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(test: &str) -> Self {
        let name = format!("replica-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A new key, and the id that `keygen` says.
    pub(crate) fn keygen(&self, name: &str) -> (PathBuf, String) {
        let path = self.0.join(name);
        let output = replica().arg("keygen").arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let id = String::from_utf8(output.stdout).unwrap();
        (path, id.strip_suffix('\n').unwrap().into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Loopback addresses that nobody listened on just now.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    std::array::from_fn(|at| sockets[at].local_addr().unwrap())
}

pub(crate) fn topology_of(version: u64, members: &[(&str, SocketAddr)]) -> String {
    let member = |(id, address): &(&str, SocketAddr)| {
        format!("\n[[member]]\nid = \"{id}\"\naddress = \"{address}\"\n")
    };
    format!("version = {version}\n{}", members.iter().map(member).collect::<String>())
}

/// Puts a topology file in the place of the one that is there, as a whole.
pub(crate) fn replace_topology(scratch: &Scratch, content: &str) {
    let new = scratch.write("topology.new", content);
    fs::rename(new, scratch.0.join("topology.toml")).unwrap();
}

/// What a received folder holds: folder of the member and name, and content.
pub(crate) type Files = BTreeMap<(String, String), Vec<u8>>;

/// One replica, whose process may come and go.
pub(crate) struct Replica {
    pub(crate) home: PathBuf,
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) runtime: &'static str,
    pub(crate) process: Option<Child>,
    pub(crate) runs: usize,
}

impl Replica {
    pub(crate) fn new(scratch: &Scratch, at: usize, address: SocketAddr) -> Self {
        let home = scratch.0.join(at.to_string());
        fs::create_dir_all(home.join("publish")).unwrap();
        let (_, id) = scratch.keygen(&format!("{at}/key"));
        let runtime = ["tokio", "smol"][at % 2];
        Self { home, id, address, runtime, process: None, runs: 0 }
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = replica();
        command
            .arg("run")
            .args(["--listen", &self.address.to_string(), "--runtime", self.runtime])
            .args(["--metrics", "127.0.0.1:0"])
            .arg("--key")
            .arg(self.home.join("key"))
            .arg("--topology")
            .arg(self.home.join("../topology.toml"))
            .arg("--publish")
            .arg(self.home.join("publish"))
            .arg("--received")
            .arg(self.home.join("received"));
        command
    }

    pub(crate) fn start(&mut self) {
        self.runs += 1;
        let log = File::create(self.home.join(format!("log{}", self.runs))).unwrap();
        self.process = Some(self.command().stderr(log).spawn().unwrap());
    }

    /// Kills the process as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks the process to end, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let process = self.process.as_mut().expect("it runs");
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut status = None;
        let has_ended = || {
            status = process.try_wait().unwrap();
            status.is_some()
        };
        wait_until("shutdown", has_ended, || fs::read_to_string(self.home.join("log1")).unwrap());
        self.process = None;
        status.expect("it has ended").code()
    }

    pub(crate) fn publish(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.home.join("publish").join(name), content).unwrap();
    }

    pub(crate) fn delete(&self, name: &str) {
        fs::remove_file(self.home.join("publish").join(name)).unwrap();
    }

    pub(crate) fn received(&self) -> Files {
        let mut files = Files::new();
        // What vanishes while it is read is not there.
        let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        for member in list(&self.home.join("received")) {
            for file in list(&member.path()) {
                let name = file.file_name().into_string().unwrap();
                let Ok(content) = fs::read(file.path()) else { continue };
                if !name.starts_with('.') {
                    let member = member.file_name().into_string().unwrap();
                    files.insert((member, name), content);
                }
            }
        }
        files
    }

    /// The log of the latest run.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join(format!("log{}", self.runs))).unwrap_or_default()
    }

    /// Where the latest run is seen over HTTP.
    pub(crate) fn http_address(&self) -> SocketAddr {
        let log = self.log();
        let address = log.lines().find_map(|line| line.split_once("status at http://"));
        let (address, _) = address.expect("it says where").1.split_once('/').unwrap();
        address.parse().unwrap()
    }

    /// What the latest run answers over HTTP.
    pub(crate) fn get(&self, path: &str) -> String {
        let address = self.http_address();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How often the latest run did that to the file.
    pub(crate) fn count(&self, verb: &str, name: &str) -> usize {
        let text = format!("] {verb} {name:?}");
        self.log().lines().filter(|line| line.contains(&text)).count()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// Replicas, and what each of them has in its folder to publish.
pub(crate) struct Subnet {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) published: BTreeMap<(usize, &'static str), Vec<u8>>,
}

impl Subnet {
    pub(crate) fn publish(&mut self, at: usize, name: &'static str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        self.replicas[at].publish(name, &content);
        self.published.insert((at, name), content);
    }

    pub(crate) fn delete(&mut self, at: usize, name: &'static str) {
        self.replicas[at].delete(name);
        self.published.remove(&(at, name));
    }

    /// What a replica has when it has received all.
    pub(crate) fn expected(&self, at: usize) -> Files {
        let others = self.published.iter().filter(|((by, _), _)| *by != at);
        let file = |((by, name), content): (&(usize, &str), &Vec<u8>)| {
            ((self.replicas[*by].id[..16].to_string(), (*name).to_string()), content.clone())
        };
        others.map(file).collect()
    }

    /// Until every running replica has exactly what the others publish.
    pub(crate) fn wait(&self, what: &str) {
        for (at, replica) in self.replicas.iter().enumerate() {
            if replica.process.is_some() {
                let expected = self.expected(at);
                let has_all = || replica.received() == expected;
                wait_until(&format!("replica {at}: {what}"), has_all, || self.logs());
            }
        }
    }

    pub(crate) fn logs(&self) -> String {
        let log = |(at, replica): (usize, &Replica)| format!("replica {at}\n{}", replica.log());
        self.replicas.iter().enumerate().map(log).collect()
    }
}

/// Runs a command that has to end by itself.
pub(crate) fn output(command: &mut Command) -> Output {
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = process.unwrap();
    let deadline = Instant::now() + DEADLINE;
    while process.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            process.kill().unwrap();
            panic!("{command:?} did not end: {:?}", process.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    process.wait_with_output().unwrap()
}

/// The operator is told what is wrong, and the process ends with 2.
pub(crate) fn assert_refused(command: &mut Command, expected: &str) {
    let output = output(command);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {message}");
    assert!(message.starts_with("error: ") && message.contains(expected), "{expected}: {message}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// The arguments of a run in which nothing is wrong but what comes after.
pub(crate) fn run_in(
    scratch: &Scratch,
    address: SocketAddr,
    key: &Path,
    topology: &Path,
) -> Command {
    let mut command = replica();
    command.current_dir(&scratch.0);
    command.args(["run", "--listen", &address.to_string(), "--publish", "p", "--received", "r"]);
    command.arg("--key").arg(key).arg("--topology").arg(topology);
    command
}

/// A process that is killed when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command that logs into a file.
pub(crate) fn start(command: &mut Command, log: &Path) -> Running {
    Running(command.stderr(File::create(log).unwrap()).spawn().unwrap())
}
