//! What an operator gets wrong, and is told.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{
    Scratch, assert_refused, free_addresses, output, replica, run_in, topology_of,
};

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
    refused(&scratch.0.join("missing"), "slotcast-replica keygen");
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
        assert_refused(run().args(arguments), "try '--help'");
    }
    let lists: [&[&str]; 3] = [&["walk"], &["keygen"], &["keygen", "a", "b"]];
    for arguments in lists {
        assert_refused(replica().args(arguments), "Usage: slotcast-replica");
    }
    assert_refused(replica().arg("run"), "`key` is missing: give --key");
    // A folder with something else in it is not to be emptied.
    fs::remove_dir_all(scratch.0.join("r")).unwrap();
    fs::create_dir(scratch.0.join("r")).unwrap();
    scratch.write("r/note", "mine");
    assert_refused(&mut run(), "give another --received folder");
    assert_eq!(fs::read(scratch.0.join("r/note")).unwrap(), b"mine");

    for arguments in [&["--help"][..], &["run", "--help"], &["keygen", "-h"]] {
        let output = output(replica().args(arguments));
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("Usage: "),
            "{output:?}"
        );
    }
}

#[test]
fn a_configuration_is_read_whole_or_refused_with_the_place_of_what_is_wrong() {
    let scratch = Scratch::new("configuration");
    let refused = |text: &str, expected: &str| {
        let config = scratch.write("replica.toml", text);
        assert_refused(replica().args(["run", "--config"]).arg(config), expected);
    };
    let good = "key = \"key\"\nlisten = \"127.0.0.1:7001\"\ntopology = \"topology.toml\"\n\
                publish = \"publish\"\nreceived = \"received\"\n";
    let cases = [
        ("colour = 1\n", "replica.toml:6:1: unknown field `colour`, expected one of"),
        ("runtime = \"async\"\n", "replica.toml:6:11: unknown variant `async`"),
        ("metrics = \"localhost\"\n", "replica.toml:6:11: invalid socket address"),
        ("[node]\nslots = 1\n", "replica.toml:7:1: unknown field `slots`"),
        ("[[node.channels]]\nid = 1\nslots = 1\n", "replica.toml:8:1: unknown field `slots`"),
        ("[[node.channels]]\nslots_max = 1\n", "replica.toml:6:1: missing field `id`"),
        ("[node]\npeers_max = 0\n", "configuration: peers_max"),
        ("[[node.channels]]\nid = 7\nslots_max = 0\n", "configuration: channel 7"),
        ("[[node.routes]]\nid = 2\nname = \"x\"\n", "route 2: a replica has one route only"),
        ("", "there is no "),
    ];
    for (text, expected) in cases {
        refused(&format!("{good}{text}"), expected);
    }
    refused("listen = \"127.0.0.1:7001\"\n", "`key` is missing");
    let missing = scratch.0.join("missing.toml");
    assert_refused(replica().args(["run", "--config"]).arg(missing), "cannot read ");
}
