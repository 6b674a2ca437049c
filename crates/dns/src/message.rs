//! Questions and answers as they go over the wire.

use crate::name::{self, Name};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::IpAddr;
use std::sync::Arc;

/// What is asked of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its IPv4 addresses.
    A,
    /// Its IPv6 addresses.
    Aaaa,
    /// The names that it points to.
    Ptr,
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Ptr => RecordType::PTR,
        }
    }

    /// The name of the type of record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ptr => "PTR",
        }
    }
}

/// What one message asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// A full name.
    pub name: Name,
    /// What is asked of it.
    pub kind: Kind,
}

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether the server is to ask others.
    pub recurse: bool,
    /// Whether to say that larger answers are taken (EDNS).
    pub edns: bool,
    /// Whether to ask whether the data is authentic. Nothing looks at the answer.
    pub authentic: bool,
}

/// The size of datagrams that are taken with EDNS: what passes without fragmentation.
pub const EDNS_SIZE: u16 = 1232;

/// The most that a name is said to be known, or known not to be, in seconds.
const LONGEST: u32 = 86_400;
const LONGEST_ABSENCE: u32 = 10_800;

impl Question {
    /// The message that asks this. None if it cannot be encoded.
    pub fn encode(&self, id: u16, manner: Manner) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = manner.recurse;
        message.metadata.authentic_data = manner.authentic;
        message.add_query(Query::query(self.name.clone(), self.kind.record_type()));
        if manner.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_SIZE);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    fn is(&self, query: &Query) -> bool {
        query.query_type() == self.kind.record_type()
            && query.query_class() == DNSClass::IN
            && query.name() == &self.name
    }
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The name has what was asked for.
    Found(Arc<Answer>),
    /// There is no such name; or there is, but it has nothing of the kind.
    Absent(Absence),
    /// Nobody said anything that helps.
    Failed(Failure),
}

/// What is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The name.
    Name,
    /// Something of the kind that was asked for.
    Data,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No server can be reached.
    Unreachable,
    /// No server answered in time.
    Timeout,
    /// Servers said that they cannot or will not answer.
    Server,
    /// What they said is an error that asking again does not mend.
    Permanent,
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The names that the one asked for stands for, the last of which has it. Empty if that has it
    /// itself.
    pub stands_for: Vec<String>,
    /// What it has.
    pub data: Data,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Of the questions A and AAAA.
    Addresses(Vec<IpAddr>),
    /// Of the question PTR.
    Names(Vec<String>),
}

/// A message that answers a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The outcome, and for how many seconds it may be kept.
    Outcome(Outcome, u32),
    /// The answer is longer than a datagram: to be asked over TCP.
    Truncated,
    /// There is no answer.
    Refused(Refusal),
}

/// Why a server does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot or does not want to, or what it sends makes no sense.
    Unable,
    /// It does not do such things.
    NotImplemented,
    /// It did not understand the question.
    Format,
}

/// The answer to a question in a message that has come; None if this is none: it has to be waited
/// for further.
///
/// The caller has seen to it that the message comes from the server that was asked.
pub fn read(question: &Question, id: u16, bytes: &[u8]) -> Option<Reply> {
    // Who only guesses the number is not worth a look at the rest.
    if bytes.len() < 12 || bytes[..2] != id.to_be_bytes() {
        return None;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        // The header says whether it is cut off, in which case it may be anywhere.
        let (is_response, truncated) = (bytes[2] & 0x80 != 0, bytes[2] & 0x02 != 0);
        return is_response.then_some(if truncated {
            Reply::Truncated
        } else {
            Reply::Refused(Refusal::Unable)
        });
    };
    let head = &message.metadata;
    if head.message_type != MessageType::Response || head.op_code != OpCode::Query {
        return None;
    }
    let code = head.response_code;
    let is_error = !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    match &message.queries[..] {
        [query] if question.is(query) => {}
        // Servers that do not understand a message send its header back.
        [] if is_error => {}
        _ => return None,
    }
    if head.truncation {
        return Some(Reply::Truncated);
    }
    match code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::ServFail | ResponseCode::Refused => {
            return Some(Reply::Refused(Refusal::Unable));
        }
        ResponseCode::NotImp => return Some(Reply::Refused(Refusal::NotImplemented)),
        ResponseCode::FormErr | ResponseCode::BADVERS => {
            return Some(Reply::Refused(Refusal::Format));
        }
        _ => return Some(Reply::Outcome(Outcome::Failed(Failure::Permanent), 0)),
    }
    Some(gather(question, &message))
}

/// What the records of an answer say of the name that was asked for, and the names it stands for.
fn gather(question: &Question, message: &Message) -> Reply {
    let mut current = &question.name;
    let mut stands_for = Vec::new();
    let mut steps = 0;
    let mut ttl = LONGEST;
    let records = || message.answers.iter().filter(|record| record.dns_class == DNSClass::IN);
    // There are no more steps than records: a circle ends as well.
    while let Some((record, target)) = records()
        .find_map(|record| match &record.data {
            RData::CNAME(target) if &record.name == current => Some((record, &target.0)),
            _ => None,
        })
        .filter(|_| steps < message.answers.len())
    {
        ttl = ttl.min(ttl_of(record));
        // Programs do not get to see odd names.
        if name::is_of_host(target) {
            stands_for.push(name::text(target));
        }
        current = target;
        steps += 1;
    }
    let mut addresses = Vec::new();
    let mut names = Vec::new();
    for record in records().filter(|record| &record.name == current) {
        match (&record.data, question.kind) {
            (RData::A(address), Kind::A) => addresses.push(IpAddr::V4(address.0)),
            (RData::AAAA(address), Kind::Aaaa) => addresses.push(IpAddr::V6(address.0)),
            (RData::PTR(target), Kind::Ptr) if name::is_of_host(&target.0) => {
                names.push(name::text(&target.0));
            }
            _ => continue,
        }
        ttl = ttl.min(ttl_of(record));
    }
    if addresses.is_empty() && names.is_empty() {
        // The C library says so too if all there is are other names, or odd ones.
        let is_empty = message.answers.is_empty();
        let absence = match message.metadata.response_code {
            ResponseCode::NoError if is_empty => Absence::Data,
            _ => Absence::Name,
        };
        return Reply::Outcome(Outcome::Absent(absence), absence_ttl(message));
    }
    let data = match question.kind {
        Kind::Ptr => Data::Names(names),
        _ => Data::Addresses(addresses),
    };
    let answer = Answer { stands_for, data };
    Reply::Outcome(Outcome::Found(Arc::new(answer)), ttl)
}

/// For how many seconds a record holds. More than 31 bits mean not at all (RFC 2181).
fn ttl_of(record: &Record) -> u32 {
    if record.ttl > i32::MAX.cast_unsigned() { 0 } else { record.ttl }
}

/// For how long something is known not to be there (RFC 2308): as the zone says, or not at all.
fn absence_ttl(message: &Message) -> u32 {
    message
        .authorities
        .iter()
        .find_map(|record| match &record.data {
            RData::SOA(soa) => Some(ttl_of(record).min(soa.minimum)),
            _ => None,
        })
        .map_or(0, |ttl| ttl.min(LONGEST_ABSENCE))
}
