//! Subnets whose members publish, change, crash, come and go.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use crate::harness::{
    Replica, Scratch, Subnet, free_addresses, replace_topology, topology_of, wait_until,
};

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
