//! Errors tell their cause once: as their source, or as a part of their text.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use slotcast::artifact::ArtifactError;
use slotcast::config::Config;
use slotcast::driver::{LoadError, StartError, Unfollowed, load_topology};
use slotcast::error::{Fault, PublishError};
use slotcast::id::NodeId;
use slotcast::membership::TopologyError;
use slotcast::node::NodeError;
use slotcast::wire::Malformed;

/// An error's text, and those of its causes.
fn chain(error: &dyn Error) -> Vec<String> {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect()
}

#[test]
fn a_socket_that_cannot_be_bound_is_told_with_its_cause() {
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let error = StartError::Socket { address, error: io::Error::other("no luck") };
    assert_eq!(chain(&error), ["cannot listen on 127.0.0.1:1", "no luck"]);
}

#[test]
fn an_invalid_configuration_is_told_once() {
    let why = Config::new([]).check().unwrap_err();
    let text = "channels: 0 does not lie between 1 and 64 (so many of them)";
    assert_eq!(chain(&StartError::from(NodeError::from(why))), [text]);
}

#[test]
fn a_topology_that_is_refused_is_told_with_its_cause() {
    let error = TopologyError::Duplicate(NodeId([0xab; 32]));
    let cause = format!("{} is named twice", "ab".repeat(32));
    assert_eq!(chain(&NodeError::from(error)), [cause.as_str()]);
    let refused = Unfollowed::<LoadError>::Refused { version: 7, error };
    assert_eq!(chain(&refused), ["topology version 7 is refused", &cause]);
}

#[test]
fn a_topology_file_that_cannot_be_read_is_told_with_its_cause() {
    let error = load_topology(Path::new("no/such/file")).expect_err("there is none");
    let texts = chain(&Unfollowed::Source(error));
    assert_eq!((texts.len(), texts[0].as_str()), (2, "cannot read no/such/file"));
}

#[test]
fn wrappers_that_add_nothing_tell_what_they_wrap() {
    let wrapped = ArtifactError::MetadataTooLong;
    assert_eq!(chain(&PublishError::from(wrapped)), chain(&wrapped));
    assert_eq!(chain(&Fault::from(Malformed::Trailing)), ["malformed: bytes behind the body"]);
}
