//! Two slotcast nodes, whose crypto is that of aws-lc-rs, and two plain quinn endpoints, whose
//! crypto is that of ring, in one process: an artifact is delivered, and a message answered.
//!
//! Nobody installs a default provider of rustls, which with two to choose from has none by itself.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::rustls::{RootCertStore, pki_types::PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config};
use slotcast_tokio::slotcast::driver::random_bytes;
use slotcast_tokio::slotcast::id::ChannelId;
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::NodeKey;
use slotcast_tokio::{Setup, bind};

const CHANNEL: ChannelId = ChannelId(1);

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let both = async { tokio::try_join!(slotcast(), plain_quinn()) };
    tokio::time::timeout(PATIENCE, both).await??;
    Ok(())
}

/// Two nodes, and one artifact from one to the other.
async fn slotcast() -> Outcome {
    let keys = [(); 2].map(|()| NodeKey::from_seed(random_bytes()));
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    let addresses = [sockets[0].local_addr()?, sockets[1].local_addr()?];
    drop(sockets);
    let members = [0, 1].map(|n: usize| (keys[n].id(), vec![addresses[n]]));
    let topology = Topology::new(1, members)?;
    let start = |n: usize| {
        let config = Config::new([ChannelConfig::new(CHANNEL)]);
        bind(Setup::new(keys[n].clone(), config, topology.clone()), addresses[n])
    };
    let (alice, bob) = (start(0)?, start(1)?);
    alice.channel(CHANNEL)?.publish("block 7", b"height 7")?;
    let received = bob.channel(CHANNEL)?;
    match received.next_event().await {
        Some(Event::Delivered { artifact, from }) if artifact.bytes()[..] == *b"block 7" => {
            println!("slotcast, aws-lc-rs: {from:#} sent {} bytes", artifact.bytes().len());
        }
        other => return Err(format!("not what was published: {other:?}").into()),
    }
    alice.shutdown().await?;
    Ok(bob.shutdown().await?)
}

/// Two endpoints as quinn's own documentation makes them, and one stream there and back.
async fn plain_quinn() -> Outcome {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()])?;
    let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der());
    let key = PrivatePkcs8KeyDer::from(key).into();
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key)?;
    let server = Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    client.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);

    let address = server.local_addr()?;
    let answering = async {
        let connection = server.accept().await.ok_or("the endpoint is open")?.await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        send.write_all(&receive.read_to_end(100).await?).await?;
        send.finish()?;
        connection.closed().await;
        Outcome::Ok(())
    };
    let asking = async {
        let connection = client.connect(address, "localhost")?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"hello").await?;
        send.finish()?;
        let answer = receive.read_to_end(100).await?;
        println!("quinn, ring: {} bytes there and back", answer.len());
        connection.close(0_u32.into(), b"");
        Outcome::Ok(())
    };
    tokio::try_join!(answering, asking)?;
    Ok(())
}
