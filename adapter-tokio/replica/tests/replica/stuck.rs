//! F13: files and a standard error that block do not stop a node.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    Replica, Running, Scratch, Subnet, free_addresses, replace_topology, topology_of, wait_until,
};

/// Two replicas; the second one is not started.
fn pair(scratch: &Scratch) -> Subnet {
    let addresses = free_addresses::<2>();
    let replicas = [0, 1].map(|at| Replica::new(scratch, at, addresses[at]));
    let members: Vec<_> = replicas.iter().map(|one| (one.id.as_str(), one.address)).collect();
    scratch.write("topology.toml", topology_of(1, &members));
    let mut subnet = Subnet { replicas: replicas.into(), published: Default::default() };
    subnet.replicas[0].start();
    subnet
}

/// F13, a full pipe: nobody reads what the replica says, and it says more than a pipe holds.
#[test]
fn a_full_standard_error_stops_nothing_and_lost_lines_are_counted() {
    /// A Linux pipe holds 64 KiB; each file makes two lines of more than a hundred bytes.
    const FILES: usize = 1000;
    let scratch = Scratch::new("full-pipe");
    let mut subnet = pair(&scratch);
    let mut run = subnet.replicas[1].command();
    let mut talker = Running(run.stderr(Stdio::piped()).spawn().unwrap());
    // What lies in its folder is told of twice, when it comes and when it goes.
    let name = |at: usize| format!("{at:0>100}");
    for turn in 0..2 {
        (0..FILES).for_each(|at| subnet.replicas[1].publish(&name(at), "x"));
        let has_all = || subnet.replicas[0].received().len() == FILES;
        wait_until(&format!("turn {turn}: all come"), has_all, || subnet.replicas[0].log());
        (0..FILES).for_each(|at| subnet.replicas[1].delete(&name(at)));
        let has_none = || subnet.replicas[0].received().is_empty();
        wait_until(&format!("turn {turn}: all go"), has_none, || subnet.replicas[0].log());
    }
    subnet.publish(0, "last", "words");
    let received = subnet.replicas[1].home.join("received");
    let has_last = || fs::read(received.join(&subnet.replicas[0].id[..16]).join("last")).is_ok();
    wait_until("it receives, too", has_last, || subnet.replicas[0].log());

    // It ends although its last lines cannot be written.
    let pid = talker.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut code = None;
    let has_ended = || {
        code = talker.0.try_wait().unwrap();
        code.is_some()
    };
    wait_until("it shuts down", has_ended, || subnet.replicas[0].log());
    assert_eq!(code.expect("it has ended").code(), Some(0));
    let mut said = Vec::new();
    talker.0.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    assert!(said.len() >= 60 << 10, "the pipe was not full: {} bytes", said.len());
}

/// F13, a topology path that blocks: opening a pipe that nobody writes to does.
#[test]
fn a_topology_that_blocks_is_told_and_the_next_one_is_followed() {
    let scratch = Scratch::new("pipe");
    let mut subnet = pair(&scratch);
    subnet.replicas[1].start();
    subnet.publish(0, "first", "before");
    subnet.wait("is connected");

    let pipe = scratch.0.join("pipe");
    make_pipe(&pipe);
    fs::rename(&pipe, scratch.0.join("topology.toml")).unwrap();
    for at in 0..2 {
        let log = || subnet.replicas[at].log();
        wait_until("it is told", || log().contains("stays as it is: cannot read "), log);
    }
    subnet.publish(1, "second", "goes on");
    subnet.wait("goes on");

    let members = subnet.replicas.iter().map(|one| (one.id.as_str(), one.address));
    replace_topology(&scratch, &topology_of(2, &members.collect::<Vec<_>>()));
    for at in 0..2 {
        let log = || subnet.replicas[at].log();
        wait_until("it is followed", || log().contains("topology version 2 is in force"), log);
    }
    for replica in &mut subnet.replicas {
        assert_eq!(replica.terminate(), Some(0));
    }
}

/// F13, a folder that cannot be written: here, a file has taken its place. (Permissions do not stop root.)
#[test]
fn a_folder_that_cannot_be_written_is_told_and_used_again_once_it_can() {
    let scratch = Scratch::new("unwritable");
    let mut subnet = pair(&scratch);
    subnet.replicas[1].start();
    subnet.publish(1, "first", "before");
    subnet.wait("receives");

    let received = subnet.replicas[0].home.join("received");
    fs::rename(&received, scratch.0.join("aside")).unwrap();
    fs::write(&received, "in the way").unwrap();
    subnet.publish(1, "second", "cannot be written");
    let log = || subnet.replicas[0].log();
    wait_until("it is told", || log().contains("but cannot write it: "), log);
    // It publishes all the same.
    subnet.publish(0, "third", "from the one that cannot write");
    let expected = subnet.expected(1);
    wait_until("it publishes", || subnet.replicas[1].received() == expected, || subnet.logs());

    fs::remove_file(&received).unwrap();
    fs::rename(scratch.0.join("aside"), &received).unwrap();
    subnet.delete(1, "second");
    subnet.publish(1, "fourth", "can be written");
    subnet.wait("writes again");
    for replica in &mut subnet.replicas {
        assert_eq!(replica.terminate(), Some(0));
    }
}

fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}
