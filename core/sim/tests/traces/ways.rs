//! The ways of artifacts and members.

use slotcast_sim::Setup;
use slotcast_testkit::machines::{artifact, config, ms, small};

use crate::collector::{Lines, by, enter};
use crate::subnet::{Recorded, of};

#[test]
fn a_person_sees_the_way_of_an_artifact_and_no_byte_of_it() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = of(Setup::new(&config(|_| {}), 2));
    subnet.set_scope(enter);
    subnet.connect();
    let [pushed, fetched] = [small(1), artifact(2, 300_000)];
    for block in [&pushed, &fetched] {
        by(0, || subnet.publish(0, block));
    }
    subnet.settle();
    by(0, || subnet.abort(0, &pushed));
    subnet.settle();

    let words = |place: usize, id: &str| -> Vec<String> {
        let of_id = format!("artifact={id}");
        let lines = lines.of(place, &[&of_id]);
        lines.iter().map(|line| line.split_once(" channel=").unwrap().0.to_owned()).collect()
    };
    let id = pushed.id().to_string();
    assert_eq!(words(0, &id), ["published", "aborted"]);
    assert_eq!(words(1, &id), ["first told", "complete", "delivered", "expired"]);
    let id = fetched.id().to_string();
    assert_eq!(words(0, &id), ["published"]);
    let way = words(1, &id);
    assert_eq!(way[..2], ["first told", "asked"], "{way:?}");
    assert_eq!(way[way.len() - 2..], ["complete", "delivered"], "{way:?}");
    let publisher = format!("peer={}", subnet.id(0));
    for word in ["first told", "asked", "complete", "delivered"] {
        assert!(!lines.of(1, &[word, &id, &publisher]).is_empty(), "{word}");
    }
    for block in [&pushed, &fetched] {
        let some: String = block.bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(lines.all().iter().all(|line| !line.contains(&some)), "no payloads");
    }
}

#[test]
fn a_person_sees_members_come_and_go() {
    let (lines, _guard) = Lines::begin();
    let mut subnet = of(Setup::new(&config(|_| {}), 2));
    subnet.set_scope(enter);
    subnet.connect();
    let ids = [0, 1].map(|at| format!("peer={}", subnet.id(at)));
    for at in 0..2 {
        assert_eq!(lines.of(at, &["up", &ids[1 - at], "address="]).len(), 1, "{:#?}", lines.all());
    }
    let dials = (0..2).map(|at| lines.of(at, &["dialling", &ids[1 - at]]).len());
    assert_eq!(dials.sum::<usize>(), 1, "{:#?}", lines.all());
    by(1, || subnet.with(1, |node| node.shutdown(node.now())));
    subnet.elapse(ms(500));
    assert_eq!(lines.of(1, &["shutdown"]).len(), 1);
    assert_eq!(lines.of(0, &["down", &ids[1], "why=Shutdown"]).len(), 1, "{:#?}", lines.all());
}
