//! A stranger without any key, which sends first datagrams of handshakes as fast as it likes.

#![allow(clippy::disallowed_methods, reason = "it runs by the clock, over real sockets")]

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use slotcast::node::NodeKey;

use crate::foe::{ALPN, Credentials, Foe, Transport};

/// What a client pads its first datagram to (RFC 9000, section 14.1).
const INITIAL_BYTES: usize = 1200;

/// Handshakes that are real as far as they go.
const GENUINE: usize = 200;

/// The datagrams of a flood, which it sends in turn.
pub struct Flood {
    datagrams: Vec<Vec<u8>>,
    random: u64,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Echo {
    pub sent: u64,
    pub sent_bytes: u64,
    pub heard_bytes: u64,
    /// Connection ids of the victim in whole flights of handshakes: connections that it began.
    pub accepted: BTreeSet<Vec<u8>>,
}

impl Flood {
    /// Makes the datagrams: those of real clients, which knock where nobody answers; those that only
    /// look like it; and some that look like nothing.
    pub async fn new() -> Self {
        let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let key = NodeKey::from_seed([99; 32]);
        let clients = Foe::new(Credentials::Raw(key), ALPN, Transport::default());
        let at = nobody.local_addr().expect("bound");
        // Dropped, they would tell the server that they have gone, and make room for others.
        let mut attempts = Vec::new();
        let mut flood = Self { datagrams: Vec::new(), random: 0x9e37_79b9_7f4a_7c15 };
        for _ in 0..GENUINE {
            attempts.push(clients.knock(at));
            let mut datagram = vec![0; 2048];
            let length = nobody.recv(&mut datagram).await.expect("a client begins to speak");
            datagram.truncate(length);
            let (forged, garbage) = (flood.forged(), flood.garbage());
            flood.datagrams.extend([datagram, forged, garbage]);
        }
        flood
    }

    /// xorshift64
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let next = |_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random.to_be_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    /// The header of an Initial (RFC 9000, section 17.2.2), and noise where the rest would be.
    fn forged(&mut self) -> Vec<u8> {
        let id = self.bytes(8);
        let mut datagram = [&[0xc3, 0, 0, 0, 1, 8][..], &id, &[8], &id, &[0]].concat();
        let rest = INITIAL_BYTES - datagram.len() - 2;
        datagram.extend((rest as u16 | 0x4000).to_be_bytes());
        datagram.extend(self.bytes(rest));
        datagram
    }

    /// Of any form, long headers and short ones.
    fn garbage(&mut self) -> Vec<u8> {
        self.bytes(INITIAL_BYTES)
    }

    /// Sends so many datagrams at this rate. Blocks; `go_on` is asked now and then.
    pub fn run(
        mut self,
        socket: &UdpSocket,
        to: SocketAddr,
        count: u64,
        per_second: u64,
        go_on: impl Fn() -> bool,
    ) -> Echo {
        socket.set_nonblocking(true).expect("a socket");
        let mut echo = Echo::default();
        let begun = Instant::now();
        while echo.sent < count && go_on() {
            let due = (begun.elapsed().as_micros() as u64 * per_second / 1_000_000).min(count);
            while echo.sent < due {
                let at = echo.sent as usize % self.datagrams.len();
                // Those that need no crypto are new each time, by their connection id.
                let id = self.bytes(8);
                let datagram = &mut self.datagrams[at];
                if at % 3 == 1 {
                    datagram[6..14].copy_from_slice(&id);
                }
                if let Ok(bytes) = socket.send_to(datagram, to) {
                    echo.sent_bytes += bytes as u64;
                }
                echo.sent += 1;
            }
            echo.listen(socket);
            thread::sleep(Duration::from_millis(1));
        }
        echo
    }
}

impl Echo {
    /// Takes what has arrived.
    pub fn listen(&mut self, socket: &UdpSocket) {
        let mut buffer = [0; 2048];
        while let Ok(bytes) = socket.recv(&mut buffer) {
            self.heard_bytes += bytes as u64;
            let id = 7 + usize::from(buffer[5]);
            // An Initial that has more to it than a refusal, or a retry.
            if bytes >= INITIAL_BYTES && buffer[0] & 0xf0 == 0xc0 {
                self.accepted.insert(buffer[id..id + usize::from(buffer[id - 1])].to_vec());
            }
        }
    }
}
