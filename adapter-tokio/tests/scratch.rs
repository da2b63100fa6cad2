use slotcast_tokio::slotcast::{config::*, id::*, membership::*, node::*, broadcast::*};
use slotcast_tokio::*;
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes() {
    let keys: Vec<NodeKey> = (1..3).map(|n| NodeKey::from_seed([n; 32])).collect();
    let sockets: Vec<_> = (0..2).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<SocketAddr> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
    drop(sockets);
    let topology = Topology::new(1, keys.iter().zip(&addresses).map(|(k, a)| (k.id(), vec![*a]))).unwrap();
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    let nodes: Vec<_> = keys.iter().zip(&addresses).map(|(k, a)| bind(Setup::new(k.clone(), config.clone(), topology.clone()), *a).unwrap()).collect();
    let channels: Vec<_> = nodes.iter().map(|n| n.channel(ChannelId(1)).unwrap()).collect();
    let t = std::time::Instant::now();
    let id = channels[0].publish(vec![7; 200], b"hello").unwrap();
    let event = channels[1].next_event().await;
    println!("{:?} {:?}", t.elapsed(), event);
    println!("{:?} {:?}", nodes[0].next_event().await, nodes[1].next_event().await);
    let t = std::time::Instant::now();
    let big = channels[1].publish(vec![9; 4 << 20], b"big").unwrap();
    println!("{:?} {:?}", t.elapsed(), channels[0].next_event().await);
    println!("{:?}", t.elapsed());
    channels[0].abort(&id);
    println!("{:?}", channels[1].next_event().await);
    println!("{:?}", channels[1].next_event().await);
    channels[1].abort(&big);
    println!("{:?}", channels[0].next_event().await);
    let t = std::time::Instant::now();
    nodes[0].shutdown().await.unwrap();
    println!("{:?} {:?}", t.elapsed(), nodes[1].next_event().await);
    nodes[1].shutdown().await.unwrap();
    println!("{:?} {:?}", t.elapsed(), nodes[1].stats());
}
