//! Replicas with a configuration file.

use std::fs;

use crate::harness::{
    Scratch, assert_refused, free_addresses, output, replica, start, topology_of, wait_until,
};

#[test]
fn two_folders_that_init_has_made_are_a_subnet_with_two_channels() {
    let scratch = Scratch::new("init");
    let addresses = free_addresses::<2>();
    let homes = ["a", "b"].map(|name| scratch.0.join(name));
    let init = |at: usize| {
        let mut command = replica();
        command.arg("init").arg(&homes[at]).args(["--address", &addresses[at].to_string()]);
        command
    };
    let ids = [0, 1].map(|at| {
        let output = output(&mut init(at));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    assert_refused(&mut init(0), "keys are not overwritten");

    // Paths are relative to the configuration; a value may be set in it, too.
    let topology = topology_of(2, &[(&ids[0], addresses[0]), (&ids[1], addresses[1])]);
    let processes = [0, 1].map(|at| {
        let home = &homes[at];
        let config = fs::read_to_string(home.join("replica.toml")).unwrap();
        assert!(config.contains(&format!("listen = \"{}\"", addresses[at])), "{config}");
        // One of them records its connections.
        let config = if at == 0 { config.replacen("# qlog", "qlog", 1) } else { config };
        let second = "\n[[node.channels]]\nid = 9\nclass = \"urgent\"\n";
        fs::write(home.join("replica.toml"), format!("{config}{second}")).unwrap();
        fs::write(home.join("topology.toml"), &topology).unwrap();
        let mut run = replica();
        run.args(["run", "--config"]).arg(home.join("replica.toml"));
        start(&mut run, &home.join("log"))
    });
    let logs =
        || homes.each_ref().map(|home| fs::read_to_string(home.join("log")).unwrap()).concat();
    for (channel, from, to) in [(1, 0, 1), (9, 1, 0)] {
        let file = homes[from].join(format!("publish/{channel}/file"));
        wait_until("it has made its folders", || file.parent().unwrap().exists(), logs);
        fs::write(file, format!("on {channel}")).unwrap();
        let received = format!("received/{channel}/{}/file", &ids[from][..16]);
        let received = homes[to].join(received);
        wait_until(
            "it is received in the folder of its channel",
            || {
                fs::read(&received)
                    .is_ok_and(|content| content == format!("on {channel}").as_bytes())
            },
            logs,
        );
    }
    let recorded = || fs::read_to_string(homes[0].join("qlog/connection-00.sqlog")).unwrap();
    assert!(recorded().starts_with("\x1e{\"qlog_version\""));
    // The file grows in pieces: its last record may be there in part.
    let names = || -> Vec<String> {
        let recorded = recorded();
        let records = recorded.split('\x1e').filter(|record| record.ends_with('\n'));
        let records = records.map(serde_json::from_str::<serde_json::Value>);
        let names = records.map(|record| record.expect("JSON")["name"].as_str().map(str::to_owned));
        names.flatten().collect()
    };
    wait_until(
        "packets of both directions are recorded",
        || {
            let names = names();
            ["transport:packet_sent", "transport:packet_received"]
                .iter()
                .all(|name| names.iter().any(|other| other == name))
        },
        logs,
    );
    assert!(!homes[1].join("qlog").exists());
    drop(processes);
}
