//! What a holder is asked for while more is wanted than it sends.

use std::collections::{BTreeMap, VecDeque};

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Candidate, Decision, Priority, RequestId};
use slotcast::id::ArtifactId;
use slotcast_testkit::machines::{CHANNEL, Frame, Solo, artifact, config, delivered, ms};

const BYTES: usize = 20_000;

/// What is to be asked for first has the longer metadata.
fn urgent(number: u64) -> Artifact {
    Artifact::new(artifact(number, BYTES).bytes().to_vec().into(), &[0; 9])
        .expect("within the limits")
}

/// A member that sends one artifact in 40 ms, in the order in which it is asked for them.
struct Member {
    solo: Solo,
    /// What it advertises, by slot, oldest first.
    active: VecDeque<(u32, Artifact)>,
    asked: VecDeque<(RequestId, ArtifactId)>,
    next_slot: u32,
}

impl Member {
    fn advertise(&mut self, artifact: Artifact) {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.solo.advert(0, slot, u64::from(slot) + 1, &artifact);
        self.active.push_back((slot, artifact));
    }

    /// All but so many are aborted, the oldest first.
    fn abort_all_but(&mut self, count: usize) {
        while self.active.len() > count {
            let (slot, _) = self.active.pop_front().expect("there are more");
            self.solo.clear(0, slot, u64::from(1_000_000 + slot));
        }
    }

    fn take_requests(&mut self) {
        for frame in self.solo.sent(0) {
            match frame {
                Frame::Fetch { request, id, .. } => self.asked.push_back((RequestId(request), id)),
                Frame::Cancel(request) => self.asked.retain(|(of, _)| of.0 != request),
                _ => {}
            }
        }
    }

    /// What has arrived, when it has sent one.
    fn send(&mut self) -> Vec<ArtifactId> {
        self.take_requests();
        if let Some((request, id)) = self.asked.pop_front() {
            let artifact = self.active.iter().find(|(_, artifact)| artifact.id() == id);
            let artifact = artifact.expect("it was not cancelled").1.clone();
            self.solo.chunk(0, request, &artifact, 0).expect("it is right");
        }
        self.take_requests();
        delivered(&self.solo.events())
    }
}

/// More urgent ones are advertised than the member sends, and others as well, of which it could send all.
#[test]
fn what_is_less_urgent_does_not_go_before_what_waits() {
    let config = config(|channel| channel.slots_max = 1 << 16);
    let (active, asked) = (VecDeque::new(), VecDeque::new());
    let mut member = Member { solo: Solo::new(&config, 1), active, asked, next_slot: 0 };
    let filter = |candidate: &Candidate<'_>| match candidate.advert.metadata.len() {
        9 => Decision::Fetch(Priority::High),
        _ => Decision::Fetch(Priority::Low),
    };
    assert!(member.solo.machine.set_filter(CHANNEL, Box::new(filter)));
    let mut kinds = BTreeMap::new();
    let mut arrived = [0, 0];
    for number in 0..250 {
        let mut new = vec![urgent(3 * number), urgent(3 * number + 1)];
        if number % 2 == 0 {
            new.push(artifact(3 * number + 2, BYTES));
        }
        for artifact in new {
            kinds.insert(artifact.id(), artifact.metadata().len() == 9);
            member.advertise(artifact);
        }
        member.abort_all_but(60);
        member.solo.elapse(ms(40));
        for id in member.send() {
            arrived[usize::from(kinds[&id])] += 1;
        }
    }
    let [others, urgent] = arrived;
    assert!(others * 10 <= urgent, "{arrived:?}");
}
