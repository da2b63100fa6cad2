//! Connections are recorded in qlog (feature `qlog`), each where the application says.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slotcast_tokio::slotcast::config::{ChannelConfig, Config};
use slotcast_tokio::slotcast::id::ChannelId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{NodeEvent, NodeKey, QlogWriter, RecordedConnection};
use slotcast_tokio::{NodeHandle, Setup, bind};

/// Nothing here takes a second; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<u8>>>);

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until a peer comes up.
async fn is_up(node: &NodeHandle) {
    let up = async { while !matches!(node.next_event().await, Some(NodeEvent::Up { .. })) {} };
    tokio::time::timeout(PATIENCE, up).await.expect("nothing takes so long");
}

/// What one node has recorded.
type Records = Arc<Mutex<Vec<(RecordedConnection, Record)>>>;

#[tokio::test]
async fn connections_of_two_nodes_are_recorded_at_both_ends() {
    let keys = [1, 2].map(|n| NodeKey::from_seed([n; 32]));
    let free = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let addresses = free.map(|socket| socket.local_addr().expect("bound"));
    let members = [0, 1].map(|at: usize| (keys[at].id(), vec![addresses[at]]));
    let topology = Topology::new(1, members).expect("distinct keys");
    let records: [Records; 2] = Default::default();
    let nodes = [0, 1].map(|at: usize| {
        let config = Config::new([ChannelConfig::new(ChannelId(1))]);
        let records = records[at].clone();
        let setup =
            Setup::new(keys[at].clone(), config, topology.clone()).qlog(move |connection| {
                let record = Record::default();
                records.lock().unwrap().push((*connection, record.clone()));
                Some(Box::new(record) as QlogWriter)
            });
        bind(setup, addresses[at]).expect("the address is free")
    });
    is_up(&nodes[0]).await;
    assert!(nodes[0].disconnect(&keys[1].id()));
    is_up(&nodes[0]).await;
    for node in &nodes {
        node.shutdown().await.expect("a clean end");
    }
    for (at, records) in records.iter().enumerate() {
        let records = records.lock().unwrap();
        assert!(records.len() >= 2, "one after the other");
        for (number, (connection, _)) in (0..).zip(&*records) {
            assert_eq!((connection.address, connection.number), (addresses[1 - at], number));
        }
        let (_, record) = &records[0];
        let text = String::from_utf8(record.0.lock().unwrap().clone()).unwrap();
        // JSON text sequences, RFC 7464.
        let records: Vec<_> = text.split_terminator('\n').collect();
        for record in &records {
            let json = record.strip_prefix('\x1e').expect("a record begins so");
            serde_json::from_str::<serde_json::Value>(json).expect("a record is JSON");
        }
        assert!(records.len() > 10 && records[0].contains("qlog_version"), "{text}");
        assert!(text.matches("recovery:metrics_updated").count() > 0, "{text}");
    }
    let lower = usize::from(keys[1].id() < keys[0].id());
    assert!(records[lower].lock().unwrap()[0].0.is_dialled, "the lower id dials at once");
    let all = records.iter().flat_map(|records| records.lock().unwrap().clone());
    let (dialled, accepted): (Vec<_>, Vec<_>) = all.partition(|record| record.0.is_dialled);
    assert!(!dialled.is_empty() && !accepted.is_empty(), "a connection has both ends");
}
