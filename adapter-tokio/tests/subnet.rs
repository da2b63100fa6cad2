//! The example `subnet` keeps what its `--help` promises.

use std::process::{Command, Output};

/// Runs the example, which cargo has built beside this test.
fn subnet(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test is a file");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let example = profile.join("examples/subnet").with_extension(std::env::consts::EXE_EXTENSION);
    Command::new(example).args(arguments).output().expect("`cargo test` builds examples first")
}

/// The result on the last line, if the run was good.
fn result(arguments: &[&str]) -> String {
    let output = subnet(&[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}\n{told}");
    text.lines().last().expect("a result").to_owned()
}

/// A number of the result, which is flat but for the latencies.
fn number(json: &str, name: &str) -> f64 {
    let start = json.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} in {json}"));
    let value = &json[start + name.len() + 3..];
    let end = value.find([',', '}']).expect("the object ends");
    value[..end].parse().unwrap_or_else(|_| panic!("{name} is a number in {json}"))
}

#[test]
fn everything_arrives_once_and_expires() {
    let json = result(&["--artifacts", "40", "--seconds", "1", "--seed", "7"]);
    assert!(json.starts_with('{') && json.ends_with('}'), "{json}");
    let number = |name| number(&json, name);
    for (name, value) in [("nodes", 4.0), ("tokio_nodes", 2.0), ("smol_nodes", 2.0)] {
        assert_eq!(number(name), value, "{name}");
    }
    for name in ["missing", "duplicates", "corrupt", "expired_missing", "unexpected", "faults"] {
        assert_eq!(number(name), 0.0, "{name} in {json}");
    }
    // Of each node 40 shares, 10 ingress messages and a block.
    assert_eq!(number("published"), 4.0 * 51.0);
    assert!(number("aborted") > 0.0 && number("aborted") < number("published"), "{json}");
    assert!(number("expected") > 0.0 && number("delivered") >= number("expected"), "{json}");
    assert!(number("udp_bytes") > number("payload_bytes"), "{json}");
    assert!(number("p50") > 0.0 && number("p50") <= number("p99"), "{json}");
    assert!(number("p99") <= number("max") && number("seconds") >= 1.0, "{json}");
    // What had come and gone at the node that it asked.
    let caught_up = &json[json.find("\"caught_up\":").expect("reported") + 11..];
    let caught_up = |name| self::number(caught_up, name);
    assert!(caught_up("artifacts") > 0.0 && caught_up("bytes") > 0.0, "{json}");
    assert_eq!(caught_up("missing") + caught_up("corrupt"), 0.0, "{json}");
    // Each pair once, and the node that restarted again with each other.
    assert_eq!(number("connections"), 9.0);
}

#[test]
fn a_full_outbox_makes_room_by_aborting() {
    // 3,000 shares of a node do not fit into the 1,024 slots of the channel.
    let json = result(&["--nodes", "2", "--artifacts", "3000", "--size", "50", "--seconds", "0.5"]);
    assert_eq!(number(&json, "published"), 2.0 * (3000.0 + 750.0 + 60.0));
    assert_eq!(number(&json, "payload_bytes"), 50.0 * number(&json, "delivered"));
}

#[test]
fn wrong_options_are_explained() {
    let wrong: [&[&str]; 6] = [
        &["--nodes", "1"],
        &["--nodes"],
        &["--size", "large"],
        &["--seconds", "NaN"],
        &["--colour"],
        &["--artifacts", "-1"],
    ];
    for arguments in wrong {
        let output = subnet(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"), "{arguments:?}");
    }
    let help = subnet(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--artifacts"));
}
