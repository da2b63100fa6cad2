//! Names that other members choose.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use slotcast_tokio::Setup;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config};
use slotcast_tokio::slotcast::id::ChannelId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::NodeKey;

use crate::harness::{Files, Replica, Scratch, free_addresses, topology_of, wait_until};
use crate::name;

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
