//! A few artifacts that all tests speak of by number.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use slotcast::artifact::Artifact;
use slotcast::id::ArtifactId;

/// An artifact's number.
pub(super) type Art = usize;

/// Bytes of each artifact: none, pushed ones, single chunks to be fetched, five chunks, too long.
const LENGTHS: [usize; 9] = [0, 5, 6, 8, 9, 30, 31, 70_000, 90_000];

pub(super) const ARTS: usize = LENGTHS.len();

/// Some have keys, and share them with others.
const KEYS: [Option<u64>; ARTS] =
    [None, Some(3), Some(3), None, Some(3), Some(4), None, Some(4), Some(u64::MAX)];

/// The one of several chunks.
pub(super) const LONG: Art = 7;

struct Pool {
    artifacts: Vec<Artifact>,
    by_id: BTreeMap<ArtifactId, Art>,
}

static POOL: LazyLock<Pool> = LazyLock::new(|| {
    let make = |(art, length): (Art, &usize)| {
        let bytes: Vec<u8> = (0..*length).map(|at| (at / 3 + at / 300 + art) as u8).collect();
        let metadata = [art as u8; 3];
        Artifact::keyed(KEYS[art], bytes.into(), &metadata[..art % 4]).expect("short enough")
    };
    let artifacts: Vec<Artifact> = LENGTHS.iter().enumerate().map(make).collect();
    let by_id = artifacts.iter().enumerate().map(|(art, artifact)| (artifact.id(), art)).collect();
    Pool { artifacts, by_id }
});

pub(super) fn artifact(art: Art) -> &'static Artifact {
    &POOL.artifacts[art]
}

pub(super) fn art(id: &ArtifactId) -> Art {
    POOL.by_id[id]
}

pub(super) fn len(art: Art) -> u64 {
    LENGTHS[art] as u64
}

pub(super) fn key(art: Art) -> Option<u64> {
    KEYS[art]
}
