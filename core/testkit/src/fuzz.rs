//! Bodies of the fuzz targets, with the model that they compare with; run as tests, too, so that
//! no change gets past them. `fuzz` holds the targets and their corpora.

mod bodies;
mod calls;
mod chunks;
#[cfg(test)]
mod enumeration;
mod feed;
mod grants;
mod joined;
mod model;
mod node_frames;
#[cfg(test)]
mod pair;
mod pool;
mod run;
mod sim_swarm;
mod updates;
mod wire;

/// All decoders of the wire on any bytes, cut anyhow.
pub fn wire(data: &[u8]) {
    wire::wire(data);
}

/// A machine with two peers, driven by `data`, against the model of DESIGN, sections 4 and 5.
pub fn updates(data: &[u8]) {
    updates::updates(data);
}

/// Three machines that call each other, driven by `data`, against what a call may come to.
pub fn calls(data: &[u8]) {
    calls::calls(data);
}

/// A machine with one call or request in parts, and a peer that `data` plays, against what may be sent and read.
pub fn grants(data: &[u8]) {
    grants::grants(data);
}

/// A whole node behind null crypto, with an honest peer, and one that `data` plays.
pub fn node_frames(data: &[u8]) {
    node_frames::node_frames(data);
}

/// A short run of the swarm, whose subnet and faults are read off `data`.
pub fn sim_swarm(data: &[u8]) {
    sim_swarm::sim_swarm(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
    use std::path::PathBuf;

    fn replay(target: &str, body: fn(&[u8])) {
        let corpus: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "..", "..", "fuzz", "corpus", target].iter().collect();
        let files = std::fs::read_dir(corpus).expect("a corpus is committed");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus is not empty");
        for file in files {
            std::println!("{}", file.display());
            body(&std::fs::read(file).expect("readable"));
        }
    }

    #[test]
    fn the_corpus_of_wire_passes() {
        replay("wire", super::wire);
    }

    #[test]
    fn the_corpus_of_updates_passes() {
        replay("updates", super::updates);
    }

    #[test]
    fn the_corpus_of_calls_passes() {
        replay("calls", super::calls);
    }

    #[test]
    fn the_corpus_of_grants_passes() {
        replay("grants", super::grants);
    }

    #[test]
    fn the_corpus_of_node_frames_passes() {
        replay("node_frames", super::node_frames);
    }

    #[test]
    fn the_corpus_of_sim_swarm_passes() {
        replay("sim_swarm", super::sim_swarm);
    }

    /// Always the same cases, so that a failure comes again.
    fn run(cases: u32, bytes: usize, body: fn(&[u8])) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let data = proptest::collection::vec(any::<u8>(), 0..bytes);
        let tested = TestRunner::new_with_rng(config, rng).run(&data, |data| {
            body(&data);
            Ok(())
        });
        if let Err(TestError::Fail(reason, data)) = tested {
            panic!("{reason}: {data:?}");
        }
    }

    #[test]
    fn any_updates_leave_what_the_model_says() {
        run(20_000, 800, super::updates);
    }

    #[test]
    fn any_calls_end_as_they_may() {
        run(2_000, 1200, super::calls);
    }

    #[test]
    fn any_grants_let_go_what_they_say() {
        run(5_000, 300, super::grants);
    }

    #[test]
    fn any_frames_leave_a_node_as_it_should_be() {
        run(300, 600, super::node_frames);
    }

    #[test]
    fn two_machines_end_with_each_others_slots() {
        run(3_000, 600, super::pair::pair);
    }
}
