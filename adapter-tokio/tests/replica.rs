//! The example `replica`: real processes on loopback, under both runtimes, as an operator uses them.
//!
//! Nothing here waits for a time to pass: what is waited for is a state of folders and logs.

#![cfg(unix)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use slotcast_tokio::Setup;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config};
use slotcast_tokio::slotcast::id::ChannelId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::NodeKey;

// The examples are built, but not tested: this is where the encoder's tests are.
#[path = "../examples/replica/name.rs"]
mod name;

const DEADLINE: Duration = Duration::from_secs(30);

/// The example's executable, which `cargo test` has built next to this one.
fn replica() -> Command {
    let deps = std::env::current_exe().expect("this test is a file");
    let profile = deps.ancestors().nth(2).expect("it is in target/<profile>/deps");
    let path = profile.join("examples/replica");
    assert!(path.exists(), "`cargo build --example replica` first: {}", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// Polls until it is so.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool, evidence: impl Fn() -> String) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}\n{}", evidence());
        thread::sleep(Duration::from_millis(20));
    }
}

/// A folder for one test, removed when the test has passed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("replica-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A new key, and the id that `keygen` says.
    fn keygen(&self, name: &str) -> (PathBuf, String) {
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
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let sockets = [(); N].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    std::array::from_fn(|at| sockets[at].local_addr().unwrap())
}

fn topology_of(version: u64, members: &[(&str, SocketAddr)]) -> String {
    let member = |(id, address): &(&str, SocketAddr)| {
        format!("\n[[member]]\nid = \"{id}\"\naddress = \"{address}\"\n")
    };
    format!("version = {version}\n{}", members.iter().map(member).collect::<String>())
}

/// Puts a topology file in the place of the one that is there, as a whole.
fn replace_topology(scratch: &Scratch, content: &str) {
    let new = scratch.write("topology.new", content);
    fs::rename(new, scratch.0.join("topology.toml")).unwrap();
}

/// What a received folder holds: folder of the member and name, and content.
type Files = BTreeMap<(String, String), Vec<u8>>;

/// One replica, whose process may come and go.
struct Replica {
    home: PathBuf,
    id: String,
    address: SocketAddr,
    runtime: &'static str,
    process: Option<Child>,
    runs: usize,
}

impl Replica {
    fn new(scratch: &Scratch, at: usize, address: SocketAddr) -> Self {
        let home = scratch.0.join(at.to_string());
        fs::create_dir_all(home.join("publish")).unwrap();
        let (_, id) = scratch.keygen(&format!("{at}/key"));
        let runtime = ["tokio", "smol"][at % 2];
        Self { home, id, address, runtime, process: None, runs: 0 }
    }

    fn start(&mut self) {
        self.runs += 1;
        let log = File::create(self.home.join(format!("log{}", self.runs))).unwrap();
        let process = replica()
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
            .arg(self.home.join("received"))
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Kills the process as a crash would.
    fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks the process to end, and returns its exit code.
    fn terminate(&mut self) -> Option<i32> {
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

    fn publish(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.home.join("publish").join(name), content).unwrap();
    }

    fn delete(&self, name: &str) {
        fs::remove_file(self.home.join("publish").join(name)).unwrap();
    }

    fn received(&self) -> Files {
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
    fn log(&self) -> String {
        fs::read_to_string(self.home.join(format!("log{}", self.runs))).unwrap_or_default()
    }

    /// What the latest run answers over HTTP.
    fn get(&self, path: &str) -> String {
        let log = self.log();
        let address = log.lines().find_map(|line| line.split_once("metrics at http://"));
        let (address, _) = address.expect("it says where").1.split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How often the latest run did that to the file.
    fn count(&self, verb: &str, name: &str) -> usize {
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
struct Subnet {
    replicas: Vec<Replica>,
    published: BTreeMap<(usize, &'static str), Vec<u8>>,
}

impl Subnet {
    fn publish(&mut self, at: usize, name: &'static str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        self.replicas[at].publish(name, &content);
        self.published.insert((at, name), content);
    }

    fn delete(&mut self, at: usize, name: &'static str) {
        self.replicas[at].delete(name);
        self.published.remove(&(at, name));
    }

    /// What a replica has when it has received all.
    fn expected(&self, at: usize) -> Files {
        let others = self.published.iter().filter(|((by, _), _)| *by != at);
        let file = |((by, name), content): (&(usize, &str), &Vec<u8>)| {
            ((self.replicas[*by].id[..16].to_string(), (*name).to_string()), content.clone())
        };
        others.map(file).collect()
    }

    /// Until every running replica has exactly what the others publish.
    fn wait(&self, what: &str) {
        for (at, replica) in self.replicas.iter().enumerate() {
            if replica.process.is_some() {
                let expected = self.expected(at);
                let has_all = || replica.received() == expected;
                wait_until(&format!("replica {at}: {what}"), has_all, || self.logs());
            }
        }
    }

    fn logs(&self) -> String {
        let log = |(at, replica): (usize, &Replica)| format!("replica {at}\n{}", replica.log());
        self.replicas.iter().enumerate().map(log).collect()
    }
}

#[test]
fn four_replicas_publish_abort_change_crash_and_shut_down() {
    const NAMES: [&str; 4] = ["from 0", "from-1.txt", "from%2", "from-größe"];
    let scratch = Scratch::new("four");
    let addresses = free_addresses::<4>();
    let replicas = addresses.iter().enumerate().map(|(at, to)| Replica::new(&scratch, at, *to));
    let mut subnet = Subnet { replicas: replicas.collect(), published: BTreeMap::new() };
    let members = subnet.replicas.iter().map(|replica| (replica.id.as_str(), replica.address));
    scratch.write("topology.toml", topology_of(1, &members.collect::<Vec<_>>()));
    // Some are there before their replica is, the others come later.
    subnet.replicas[2].publish(".hidden", "not to be published");
    fs::create_dir(subnet.replicas[2].home.join("publish/folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", subnet.replicas[2].home.join("publish/link"))
        .unwrap();
    subnet.publish(0, NAMES[0], "small");
    subnet.replicas[2].publish(NAMES[2], "percent");
    // The encoder is tested below; this is how the name arrives.
    subnet.published.insert((2, "from%252"), b"percent".into());
    subnet.replicas.iter_mut().for_each(Replica::start);
    subnet.publish(1, NAMES[1], (0..3 << 20).map(|at| (at >> 10) as u8).collect::<Vec<_>>());
    subnet.publish(3, NAMES[3], "");
    subnet.wait("receives what each of the others publishes");

    for replica in &subnet.replicas {
        let is_measured = || {
            let metrics = replica.get("/metrics");
            let up = metrics.lines().filter(|line| line.starts_with("slotcast_peer_up"));
            let answered =
                r#"slotcast_route_calls_total{route="1",name="probe",outcome="answered"} "#;
            let answered = metrics.lines().find_map(|line| line.strip_prefix(answered));
            up.filter(|line| line.ends_with(" 1")).count() == 3
                && answered.is_some_and(|count| count != "0")
        };
        wait_until("metrics tell of peers and calls", is_measured, || replica.get("/metrics"));
        assert!(replica.get("/other").starts_with("HTTP/1.1 404"));
    }

    subnet.delete(3, NAMES[3]);
    subnet.publish(0, "short", "lived");
    subnet.wait("an aborted file is removed");
    subnet.delete(0, "short");
    subnet.publish(0, NAMES[0], "changed");
    subnet.wait("a changed file takes the place of the old one");

    // A crash: the others keep what they have; what changes meanwhile, the new process learns.
    subnet.replicas[2].kill();
    subnet.publish(0, "new", "while 2 was down");
    subnet.publish(3, NAMES[3], "again");
    subnet.wait("goes on without replica 2");
    subnet.replicas[2].start();
    subnet.wait("is complete after the restart of replica 2");
    let restarted = &subnet.replicas[2];
    wait_until("all are up", || restarted.log().matches(" is up").count() == 3, || subnet.logs());
    subnet.wait("is complete once all are connected again");
    for at in [0, 1, 3] {
        let name = NAMES[2];
        let replica = &subnet.replicas[at];
        assert_eq!(replica.count("received", name), 1, "delivered twice\n{}", subnet.logs());
        assert_eq!(replica.count("expired", name), 0, "lost in between\n{}", subnet.logs());
        assert_eq!(restarted.count("received", if at == 0 { "new" } else { NAMES[at] }), 1);
    }
    for unpublished in ["folder", "link"] {
        assert_eq!(restarted.count("not published:", unpublished), 1, "{}", subnet.logs());
    }

    for at in 0..4 {
        assert_eq!(subnet.replicas[at].terminate(), Some(0), "{}", subnet.logs());
        let told = format!("peer {} is down: it has shut down", &subnet.replicas[at].id[..8]);
        for other in &subnet.replicas[at + 1..] {
            wait_until(&told, || other.log().contains(&told), || subnet.logs());
        }
    }
}

#[test]
fn members_come_and_go_with_the_topology_file_while_replicas_run() {
    let scratch = Scratch::new("topologies");
    let addresses = free_addresses::<5>();
    let replicas = addresses.iter().enumerate().map(|(at, to)| Replica::new(&scratch, at, *to));
    let mut subnet = Subnet { replicas: replicas.collect(), published: BTreeMap::new() };
    let members: Vec<(String, SocketAddr)> =
        subnet.replicas.iter().map(|replica| (replica.id.clone(), replica.address)).collect();
    let topology = |version, places: std::ops::Range<usize>| {
        let members = members[places].iter().map(|(id, address)| (id.as_str(), *address));
        topology_of(version, &members.collect::<Vec<_>>())
    };
    let wait_for_line = |subnet: &Subnet, places: std::ops::Range<usize>, line: &str| {
        for replica in &subnet.replicas[places] {
            wait_until(line, || replica.log().contains(line), || subnet.logs());
        }
    };
    replace_topology(&scratch, &topology(1, 0..4));
    subnet.replicas[..4].iter_mut().for_each(Replica::start);
    (0..4).for_each(|at| subnet.publish(at, "first", [at as u8]));
    subnet.wait("is complete");

    // A fifth member comes.
    replace_topology(&scratch, &topology(2, 0..5));
    wait_for_line(&subnet, 0..4, "topology version 2 is in force: 5 members");
    subnet.replicas[4].start();
    subnet.publish(4, "fifth", "here");
    subnet.wait("is complete with five");

    // What is broken, old or changed in secret is not followed; each is told once.
    let broken = "/topology.toml:2:10: unclosed array table";
    replace_topology(&scratch, "version = 3\n[[member]\n");
    wait_for_line(&subnet, 0..5, broken);
    let backwards =
        "stays as it is: topology version 1 is refused: the version is lower than the latest";
    replace_topology(&scratch, &topology(1, 0..4));
    wait_for_line(&subnet, 0..5, backwards);
    let reused =
        "stays as it is: topology version 2 is refused: the version is in use, with other members";
    replace_topology(&scratch, &topology(2, 0..3));
    wait_for_line(&subnet, 0..5, reused);
    subnet.publish(1, "second", "all are still there");
    subnet.wait("goes on with five");

    // A member goes, and what it published with it.
    replace_topology(&scratch, &topology(3, 1..5));
    wait_for_line(&subnet, 0..5, "topology version 3 is in force: 4 members");
    wait_for_line(&subnet, 0..1, &format!("{} is no member of this topology", members[0].0));
    // It has left, or has closed the connection, as its own file says the same.
    let left = format!("peer {} is down: ", &members[0].0[..8]);
    wait_for_line(&subnet, 1..5, &left);
    let former = &subnet.replicas[0];
    wait_until("it has no members", || former.received().is_empty(), || subnet.logs());
    assert_eq!(subnet.replicas[0].terminate(), Some(0), "{}", subnet.logs());
    subnet.delete(0, "first");
    subnet.publish(2, "third", "without 0");
    subnet.wait("is complete without the former member");
    for replica in &subnet.replicas {
        for line in [broken, backwards, reused] {
            assert_eq!(replica.log().matches(line).count(), 1, "{line}\n{}", subnet.logs());
        }
    }
    for replica in &mut subnet.replicas[1..] {
        assert_eq!(replica.terminate(), Some(0));
    }
}

#[test]
fn names_of_a_hostile_member_stay_in_its_folder() {
    let scratch = Scratch::new("hostile");
    let [address, here] = free_addresses();
    let mut replica = Replica::new(&scratch, 0, address);
    let key = NodeKey::from_seed([7; 32]);
    let id = key.id().to_string();
    let text = topology_of(1, &[(&replica.id, address), (&id, here)]);
    scratch.write("topology.toml", text);
    let members = [(replica.id.parse().unwrap(), vec![address]), (key.id(), vec![here])];
    let topology = Topology::new(1, members).unwrap();
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    let node = slotcast_smol::bind(Setup::new(key, config, topology), here).unwrap();
    let channel = node.channel(ChannelId(1)).unwrap();
    for (at, name) in HOSTILE.iter().enumerate() {
        channel.publish(at.to_string().into_bytes(), name).unwrap();
    }
    let too_long = [b'\n'; 128];
    channel.publish(&b"cannot be written"[..], &too_long).unwrap();
    replica.start();
    let expected = |at: usize, name: &[u8]| {
        let name = name::file_name(name).expect("it is short");
        ((id[..16].to_string(), name), at.to_string().into_bytes())
    };
    let all: Files = HOSTILE.iter().enumerate().map(|(at, name)| expected(at, name)).collect();
    wait_until("all names arrive", || replica.received() == all, || replica.log());
    wait_until("one is too long", || replica.log().contains("cannot write"), || replica.log());

    // Two artifacts of one name: the file holds one of them as long as there is one.
    let name = HOSTILE[0];
    let entry = |content: &str| {
        let mut files = all.clone();
        files.insert(expected(0, name).0, content.into());
        files
    };
    let second = channel.publish(&b"second"[..], name).unwrap();
    wait_until("the second is shown", || replica.received() == entry("second"), || replica.log());
    channel.abort(&second);
    wait_until("the first is back", || replica.received() == all, || replica.log());

    let names = |path: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(&scratch.0), ["0", "topology.toml"].map(String::from).into());
    let home = ["key", "log1", "publish", "received"];
    assert_eq!(names(&replica.home), home.map(String::from).into());
    let received = [".replica", &id[..16]];
    assert_eq!(names(&replica.home.join("received")), received.map(String::from).into());

    smol::block_on(node.shutdown()).unwrap();
    assert_eq!(replica.terminate(), Some(0));
}

/// Names that file systems, terminals and people stumble over.
const HOSTILE: &[&[u8]] = &[
    b"..",
    b".",
    b"",
    b"...",
    b"/",
    b"//",
    b"/etc/passwd",
    b"../evil",
    b"../../../../../../../../tmp/evil",
    b"a/../../evil",
    b"..\\evil",
    b"\\\\host\\share",
    b"C:evil",
    b"file:stream",
    b"nul\0evil",
    b"\0",
    b".hidden",
    b".0000000000000000000000000000000000000000000000000000000000000000",
    b"%",
    b"%%",
    b"%2E",
    b"%2e",
    b"%2E%2E",
    b"%2F",
    b"line\nbreak",
    b"\x1b[2J",
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"caf\xe9",
    "café".as_bytes(),
    "cafe\u{301}".as_bytes(),
    "\u{202e}txt.exe".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{85}".as_bytes(),
    b" ",
    b"trailing ",
    b"trailing.",
    b"trailing",
    b"*?\"<>|",
    b"-rf",
    &[b'a'; 128],
    &[b'/'; 85],
];

#[test]
fn file_names_are_harmless_and_differ_if_names_do() {
    let decode = |text: &str| -> Vec<u8> {
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts.filter(|_| text != "%") {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(part[2..].bytes());
        }
        bytes
    };
    let check = |name: &[u8]| {
        let Some(file) = name::file_name(name) else {
            assert!(name.len() > 85, "three bytes each, at most: {name:?}");
            return;
        };
        assert_eq!(decode(&file), name, "what can be read back differs");
        assert!(!file.is_empty() && file.len() <= 255 && !file.starts_with('.'), "{file:?}");
        assert!(!file.contains(['/', '\\', ':']) && !file.contains(char::is_control), "{file:?}");
        assert!(!file.ends_with(['.', ' ']), "{file:?}");
    };
    HOSTILE.iter().for_each(|name| check(name));
    for byte in 0..=255u8 {
        check(&[byte]);
        (0..=255u8).for_each(|next| check(&[byte, next]));
        for bytes in 1..=128 {
            check(&vec![byte; bytes]);
        }
    }
    // Of four bytes, all mixtures of some that matter.
    let some = *b"a.%/\0 2E\xc3\xa9\xff\n";
    for at in 0..some.len().pow(4) {
        let byte = |place: u32| some[at / some.len().pow(place) % some.len()];
        check(&[byte(0), byte(1), byte(2), byte(3)]);
    }

    for ordinary in ["a", "README.md", "block 17, final", "größe", "x_y-z(1)+~#", "日本語"] {
        assert_eq!(name::file_name(ordinary.as_bytes()).as_deref(), Some(ordinary));
    }
    assert_eq!(name::file_name(b"..").as_deref(), Some("%2E%2E"));
    assert_eq!(name::file_name(b"../evil").as_deref(), Some("%2E.%2Fevil"));
    assert_eq!(name::file_name(b"").as_deref(), Some("%"));
    assert_eq!(name::file_name(&[b'\n'; 128]), None);
}

/// Runs a command that has to end by itself.
fn output(command: &mut Command) -> Output {
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
fn assert_refused(command: &mut Command, expected: &str) {
    let output = output(command);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {message}");
    assert!(message.starts_with("error: ") && message.contains(expected), "{expected}: {message}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// The arguments of a run in which nothing is wrong but what comes after.
fn run_in(scratch: &Scratch, address: SocketAddr, key: &Path, topology: &Path) -> Command {
    let mut command = replica();
    command.current_dir(&scratch.0);
    command.args(["run", "--listen", &address.to_string(), "--publish", "p", "--received", "r"]);
    command.arg("--key").arg(key).arg("--topology").arg(topology);
    command
}

#[test]
fn what_is_wrong_with_a_topology_is_told_with_its_place() {
    let scratch = Scratch::new("topology");
    let (key, id) = scratch.keygen("key");
    let [address] = free_addresses();
    let member = format!("[[member]]\nid = \"{id}\"\n");
    let good = format!("{member}address = \"127.0.0.1:7001\"\n");
    let cases: &[(&str, &str)] = &[
        (&format!("version = 1\n{good}foo = 3\n"), ":5:1: unknown field `foo`, expected one of"),
        (&format!("version = 1\nfoo = 3\n{good}"), ":2:1: unknown field `foo`, expected"),
        (&good, ":1:1: missing field `version`"),
        (&format!("version = -1\n{good}"), ":1:11: invalid value"),
        ("version = 1\n", ":2:1: no members"),
        ("version = 1\nnot toml\n", ":2:"),
        ("version = 1\n[[member]]\nid = \"12\"\naddress = \"[::1]:1\"", ":3:6: `12`: an id is 64"),
        (&format!("version = 1\n{good}{good}"), ":6:6: member "),
        ("version = 1\n[[member]]\naddress = \"[::1]:1\"\n", ":2:1: missing field `id`"),
        (&format!("version = 1\n{member}"), ":2:1: member "),
        (&format!("version = 1\n{member}address = \"localhost:1\"\n"), ":4:11: `localhost:1`: not"),
        (&format!("version = 1\n{member}address = \"[::1]:0\"\n"), ":4:11: `[::1]:0`: members"),
        (&format!("version = 1\n{member}addresses = []\n"), ":4:13: give 1 to 4"),
        (&format!("version = 1\n{good}addresses = [\"[::1]:1\"]\n"), ":5:13: give either"),
    ];
    for (text, expected) in cases {
        let topology = scratch.write("topology.toml", text);
        let expected = format!("{}{expected}", topology.display());
        assert_refused(&mut run_in(&scratch, address, &key, &topology), &expected);
    }
    let topology = scratch.write("topology.toml", b"version = 1\n# \xff\n");
    assert_refused(&mut run_in(&scratch, address, &key, &topology), "topology.toml:2:3: not UTF-8");
    let missing = scratch.0.join("missing.toml");
    assert_refused(&mut run_in(&scratch, address, &key, &missing), "missing.toml");
}

#[test]
fn a_key_is_written_once_and_read_only_if_it_is_a_secret() {
    let scratch = Scratch::new("key");
    let (key, id) = scratch.keygen("key");
    let text = fs::read_to_string(&key).unwrap();
    assert!(text.len() == 65 && text.ends_with('\n'), "{text:?}");
    assert!(text.trim().bytes().all(|digit| digit.is_ascii_hexdigit()), "{text:?}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert_refused(replica().arg("keygen").arg(&key), "exists");
    assert_eq!(fs::read_to_string(&key).unwrap(), text, "the key is as it was");

    let [address] = free_addresses();
    let topology = scratch.write("topology.toml", topology_of(1, &[(&id, address)]));
    let refused = |key: &Path, expected| {
        assert_refused(&mut run_in(&scratch, address, key, &topology), expected);
    };
    refused(&scratch.0.join("missing"), "replica keygen");
    for mode in [0o640, 0o620, 0o604, 0o602] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        refused(&key, "chmod 600");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    for content in [&text[..63], &format!("{text}0"), &text.replace(&text[..1], "g"), ""] {
        fs::write(&key, content).unwrap();
        refused(&key, "64 hexadecimal digits");
    }
}

#[test]
fn a_replica_that_cannot_start_says_why() {
    let scratch = Scratch::new("start");
    let (key, id) = scratch.keygen("key");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let topology = scratch.write("topology.toml", topology_of(1, &[(&id, address)]));
    let run = || run_in(&scratch, address, &key, &topology);
    for runtime in ["tokio", "smol"] {
        let expected = format!("cannot listen on {address}");
        assert_refused(run().args(["--runtime", runtime]), &expected);
    }
    for arguments in [
        &["--runtime", "async"][..],
        &["--key", "twice"],
        &["--unknown", "x"],
        &["stray"],
        &["--runtime"],
    ] {
        assert_refused(run().args(arguments), "usage: replica");
    }
    let lists: [&[&str]; 5] = [&[], &["walk"], &["run"], &["keygen"], &["keygen", "a", "b"]];
    for arguments in lists {
        assert_refused(replica().current_dir(&scratch.0).args(arguments), "usage: replica");
    }
    // A folder with something else in it is not to be emptied.
    fs::remove_dir_all(scratch.0.join("r")).unwrap();
    fs::create_dir(scratch.0.join("r")).unwrap();
    scratch.write("r/note", "mine");
    assert_refused(&mut run(), "give another --received folder");
    assert_eq!(fs::read(scratch.0.join("r/note")).unwrap(), b"mine");

    for arguments in [&["--help"][..], &["run", "--help"], &["keygen", "-h"]] {
        let output = output(replica().args(arguments));
        assert!(output.status.success() && output.stdout.starts_with(b"usage: "), "{output:?}");
    }
}
