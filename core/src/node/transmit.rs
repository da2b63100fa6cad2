//! Datagrams on their way out, and the congestion marks on those that come in.

use std::net::{IpAddr, SocketAddr};

/// An explicit congestion notification codepoint (RFC 3168, section 5), which IP carries beside
/// each datagram. A socket that cannot set or read it leaves it out. QUIC detects this and works
/// without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ecn {
    /// The sender understands congestion marks; the codepoint ECT(0), which QUIC sets.
    Ect0,
    /// The sender understands congestion marks; the codepoint ECT(1).
    Ect1,
    /// A router on the path was congested.
    Ce,
}

impl Ecn {
    /// The codepoint in the two lowest bits of IPv4's type of service, or of IPv6's traffic class.
    /// `None`, if they say that the sender does not understand congestion marks.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0b11 {
            0b10 => Some(Self::Ect0),
            0b01 => Some(Self::Ect1),
            0b11 => Some(Self::Ce),
            _ => None,
        }
    }

    /// The two bits that stand for it.
    pub fn bits(self) -> u8 {
        match self {
            Self::Ect0 => 0b10,
            Self::Ect1 => 0b01,
            Self::Ce => 0b11,
        }
    }

    pub(crate) fn to_quic(self) -> quinn_proto::EcnCodepoint {
        quinn_proto::EcnCodepoint::from_bits(self.bits()).expect("QUIC knows all three")
    }
}

/// Datagrams to one destination, in the buffer that was given to [`Node::poll`](super::Node::poll).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Transmit {
    /// Where to send them.
    pub destination: SocketAddr,
    /// Bytes in the buffer, of all datagrams together.
    pub size: usize,
    /// Bytes in each datagram but the last, which may be shorter. `None` if there is one datagram
    /// only.
    pub segment_size: Option<usize>,
    /// The congestion mark to set on each.
    pub ecn: Option<Ecn>,
    /// The own address to send from: the one at which the peer knows this node. `None` if the
    /// system may choose.
    pub src_ip: Option<IpAddr>,
}

/// UDP payload that every path of QUIC takes (RFC 9000, section 14).
const MTU_MIN: u16 = 1200;

impl Transmit {
    /// Bytes in each datagram; the last one may be shorter.
    pub fn datagram_size(&self) -> usize {
        self.segment_size.unwrap_or(self.size)
    }

    /// How many datagrams there are.
    pub fn datagrams(&self) -> usize {
        self.segment_size.map_or(1, |segment| self.size.div_ceil(segment))
    }

    /// Whether this may be a path MTU probe (RFC 8899): a datagram by itself, longer than the 1,200
    /// bytes that every path takes. That a probe is too long for the path (`EMSGSIZE`) is what it is
    /// to find out, and no error. QUIC does not tell probes apart, so that another long datagram
    /// looks the same.
    pub fn may_be_mtu_probe(&self) -> bool {
        self.segment_size.is_none() && self.size > usize::from(MTU_MIN)
    }

    // Not `From`, which would be public.
    pub(super) fn from_quic(transmit: quinn_proto::Transmit) -> Self {
        let quinn_proto::Transmit { destination, ecn, size, segment_size, src_ip } = transmit;
        let ecn = ecn.and_then(|ecn| Ecn::from_bits(ecn as u8));
        Self { destination, size, segment_size, ecn, src_ip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codepoints_are_those_of_the_rfc() {
        for (bits, ecn) in [(1, Ecn::Ect1), (2, Ecn::Ect0), (3, Ecn::Ce)] {
            assert_eq!((Ecn::from_bits(bits), ecn.bits()), (Some(ecn), bits));
            assert_eq!(Ecn::from_bits(0b1011_1000 | bits), Some(ecn), "other bits do not count");
            assert_eq!(ecn.to_quic() as u8, bits);
        }
        assert_eq!(Ecn::from_bits(0b1011_1000), None);
    }

    #[test]
    fn a_long_datagram_by_itself_may_be_a_probe() {
        let transmit = |size, segment_size| Transmit {
            destination: SocketAddr::from(([127, 0, 0, 1], 1)),
            size,
            segment_size,
            ecn: None,
            src_ip: None,
        };
        assert!(transmit(1201, None).may_be_mtu_probe());
        assert!(!transmit(1200, None).may_be_mtu_probe());
        assert!(!transmit(2904, Some(1452)).may_be_mtu_probe());
    }
}
