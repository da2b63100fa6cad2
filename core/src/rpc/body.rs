//! What a body is made of.

use bytes::Bytes;

use super::parts::giving_room;

/// The body of a request or an answer, as it is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// So many bytes that are [given](super::Rpc::give) in parts. The answer to such a request is
    /// [read](super::Rpc::read) in parts.
    InParts(u32),
}

impl Body {
    /// Bytes of it.
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(body) => body.len() as u64,
            Self::InParts(length) => (*length).into(),
        }
    }

    /// Bytes that it takes in a budget of the node that gives it.
    pub(crate) fn room(&self) -> u64 {
        match self {
            Self::Whole(_) => self.length(),
            Self::InParts(_) => giving_room(self.length()),
        }
    }
}

impl From<Bytes> for Body {
    fn from(body: Bytes) -> Self {
        Self::Whole(body)
    }
}
