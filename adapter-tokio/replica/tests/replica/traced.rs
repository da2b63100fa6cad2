//! Traces of nodes, and pictures of them.

use std::fs;
use std::process::Command;

use crate::harness::{
    Replica, Scratch, Subnet, assert_refused, free_addresses, output, replica, topology_of,
};

fn draw(scratch: &Scratch, files: &[&str], more: &[&str]) -> Command {
    let mut command = replica();
    command.current_dir(&scratch.0).arg("trace").args(files).args(["--svg", "way.svg"]).args(more);
    command
}

/// Three nodes: `aa` publishes, `bb` is asked by `cc`, too, and the artifact is aborted.
const RECORDED: &str = r#"{"micros":1000,"node":"aa","event":"up","peer":"bb"}
{"micros":1000,"node":"aa","event":"published","channel":1,"artifact":"77","bytes":9000}
{"micros":3000,"node":"bb","event":"first told","channel":1,"artifact":"77","peer":"aa","decision":"Fetch"}
{"micros":3100,"node":"bb","event":"asked","channel":1,"artifact":"77","peer":"aa","chunks":1}
{"micros":4000,"node":"cc","event":"first told","channel":1,"artifact":"77","peer":"aa","decision":"Fetch"}
{"micros":6000,"node":"bb","event":"complete","channel":1,"artifact":"77","peer":"aa","bytes":9000}
{"micros":6100,"node":"bb","event":"delivered","channel":1,"artifact":"77","peer":"aa"}
{"micros":6200,"node":"cc","event":"asked","channel":1,"artifact":"77","peer":"bb","chunks":1}
{"micros":7000,"node":"cc","event":"overdue","channel":1,"artifact":"77","peer":"bb"}
{"micros":8000,"node":"cc","event":"complete","channel":1,"artifact":"77","peer":"bb","bytes":9000}
{"micros":8100,"node":"cc","event":"delivered","channel":1,"artifact":"77","peer":"bb"}
{"micros":9000,"node":"aa","event":"aborted","channel":1,"artifact":"77","is_relay":false}
{"micros":11000,"node":"bb","event":"expired","channel":1,"artifact":"77"}
{"micros":11000,"node":"cc","event":"expired","channel":1,"artifact":"77"}
{"micros":11000,"node":"dd","event":"published","channel":1,"artifact":"88","bytes":1}
{"micros":12000,"node":"c"#;

#[test]
fn recorded_lines_are_drawn() {
    let scratch = Scratch::new("drawn");
    // The order of files and lines does not matter, and a line that was cut off is none.
    let (late, early) = RECORDED.split_at(RECORDED.find("{\"micros\":6000").unwrap());
    scratch.write("1", early);
    scratch.write("2", late);
    let drawn = output(&mut draw(&scratch, &["1", "2"], &["--artifact", "7"]));
    assert!(drawn.status.success(), "{drawn:?}");
    let svg = fs::read_to_string(scratch.0.join("way.svg")).unwrap();
    for (title, count) in [
        ("published at 0<", 1),
        ("first told at 2 ms from aa Fetch", 1),
        ("overdue at 6 ms from bb", 1),
        ("delivered at 5.1 ms from aa", 1),
        ("delivered at 7.1 ms from bb", 1),
        ("aborted at 8 ms", 1),
        ("expired at 10 ms", 2),
        (">88<", 0),
    ] {
        assert_eq!(svg.matches(title).count(), count, "{title} in {svg}");
    }
    // From whom the bytes came: the places of `aa` and `bb`, and those of `bb` and `cc`.
    let ends = |title: &str| {
        let (before, _) = svg.split_once(title).unwrap();
        let (_, tag) = before.rsplit_once("<rect x=\"").unwrap();
        tag.split('"').nth(2).unwrap().parse::<f64>().unwrap() + 4.0
    };
    let rows = ["delivered at 5.1 ms", "delivered at 7.1 ms"].map(ends);
    // The first is the one in the key.
    let lines = svg.split("<path stroke-width=\"1.5\" d=\"M").skip(2);
    let lines = lines.filter_map(|line| line.split_once('"')?.0.split_once('L'));
    let lines: Vec<[f64; 2]> = lines
        .map(|(from, to)| [from, to].map(|at| at.split_once(' ').unwrap().1.parse().unwrap()))
        .collect();
    assert_eq!(lines.len(), 2, "{svg}");
    assert!(lines[0][0] < lines[0][1] && lines[0][1] == rows[0], "{lines:?} of {rows:?}");
    assert_eq!(lines[1], rows, "from bb to cc");
    assert_refused(&mut draw(&scratch, &["1"], &["--artifact", "9"]), "no artifact 9");
    assert_refused(&mut draw(&scratch, &["3"], &[]), "3: ");
}

#[test]
fn replicas_write_what_becomes_of_artifacts_and_go_on_without_a_trace() {
    let scratch = Scratch::new("traced");
    let addresses = free_addresses::<3>();
    let replicas = addresses.iter().enumerate().map(|(at, to)| Replica::new(&scratch, at, *to));
    let mut subnet = Subnet { replicas: replicas.collect(), published: Default::default() };
    let members = subnet.replicas.iter().map(|replica| (replica.id.as_str(), replica.address));
    scratch.write("topology.toml", topology_of(1, &members.collect::<Vec<_>>()));
    // The last one cannot write its trace: there is a folder.
    fs::create_dir(scratch.0.join("trace2")).unwrap();
    for (at, replica) in subnet.replicas.iter_mut().enumerate() {
        replica.runs += 1;
        let log = fs::File::create(replica.home.join("log1")).unwrap();
        let mut command = replica.command();
        command.arg("--trace").arg(scratch.0.join(format!("trace{at}"))).stderr(log);
        replica.process = Some(command.spawn().unwrap());
    }
    subnet.publish(0, "file", "content");
    subnet.publish(2, "long", vec![7; 1 << 20]);
    subnet.wait("it is received");
    subnet.delete(0, "file");
    subnet.wait("it is gone");
    for replica in &mut subnet.replicas {
        assert_eq!(replica.terminate(), Some(0));
    }
    assert_eq!(subnet.replicas[2].log().matches("cannot write the trace").count(), 1);
    for at in 0..2 {
        let text = fs::read_to_string(scratch.0.join(format!("trace{at}"))).unwrap();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["node"].as_str().unwrap(), subnet.replicas[at].id, "{line}");
        }
    }
    let drawn = output(&mut draw(&scratch, &["trace0", "trace1"], &[]));
    assert!(drawn.status.success(), "{drawn:?}");
    let svg = fs::read_to_string(scratch.0.join("way.svg")).unwrap();
    for event in ["published at", "first told at", "delivered at", "aborted at", "expired at"] {
        assert!(svg.contains(event), "{event} in {svg}");
    }
}
