//! What is made of messages of name servers.

use greenloop_dns::message::{
    Absence, Answer, Data, EDNS_SIZE, Failure, Kind, Manner, Outcome, Question, Refusal, Reply,
    read,
};
use greenloop_dns::name::{Name, parse};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA};
use hickory_proto::rr::{RData, Record, RecordType};
use std::sync::Arc;

const ID: u16 = 0x1234;
const PLAIN: Manner = Manner { recurse: true, edns: false, authentic: false };

fn name(text: &str) -> Name {
    parse(text.as_bytes()).unwrap()
}

fn question(text: &str, kind: Kind) -> Question {
    Question { name: name(text), kind }
}

fn a(last: u8) -> RData {
    RData::A(A::new(10, 0, 0, last))
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

/// A response to the question for the A records of a name.
fn response(asked: &str, code: ResponseCode, answers: &[(&str, u32, RData)]) -> Message {
    let mut message = Message::response(ID, OpCode::Query);
    message.metadata.response_code = code;
    message.add_query(Query::query(name(asked), RecordType::A));
    for (owner, ttl, data) in answers {
        message.add_answer(Record::from_rdata(name(owner), *ttl, data.clone()));
    }
    message
}

fn with_soa(mut message: Message, ttl: u32, minimum: u32) -> Message {
    let soa = SOA::new(name("ns.test"), name("root.test"), 1, 2, 3, 4, minimum);
    message.add_authority(Record::from_rdata(name("test"), ttl, RData::SOA(soa)));
    message
}

fn read_a(asked: &str, message: &Message) -> Option<Reply> {
    read(&question(asked, Kind::A), ID, &message.to_vec().unwrap())
}

fn found(stands_for: &[&str], addresses: &[&str], ttl: u32) -> Option<Reply> {
    let answer = Answer {
        stands_for: stands_for.iter().map(|name| (*name).to_owned()).collect(),
        data: Data::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect()),
    };
    Some(Reply::Outcome(Outcome::Found(Arc::new(answer)), ttl))
}

fn absent(absence: Absence, ttl: u32) -> Option<Reply> {
    Some(Reply::Outcome(Outcome::Absent(absence), ttl))
}

#[test]
fn questions_say_how_they_are_put() {
    let asked = question("www.example.com", Kind::Aaaa);
    let message = Message::from_vec(&asked.encode(ID, PLAIN).unwrap()).unwrap();
    assert_eq!(message.metadata.id, ID);
    assert!(message.metadata.recursion_desired && !message.metadata.authentic_data);
    assert_eq!(message.queries, [Query::query(name("www.example.com"), RecordType::AAAA)]);
    assert!(message.edns.is_none());
    let manner = Manner { recurse: false, edns: true, authentic: true };
    let message = Message::from_vec(&asked.encode(ID, manner).unwrap()).unwrap();
    assert!(!message.metadata.recursion_desired && message.metadata.authentic_data);
    assert_eq!(message.edns.unwrap().max_payload(), EDNS_SIZE);
}

#[test]
fn addresses_hold_as_long_as_the_shortest_record() {
    let records = [("a.test", 300, a(1)), ("A.TEST", 60, a(2)), ("b.test", 5, a(3))];
    let message = response("A.test", ResponseCode::NoError, &records);
    assert_eq!(read_a("a.test", &message), found(&[], &["10.0.0.1", "10.0.0.2"], 60));
}

#[test]
fn records_of_other_kinds_do_not_count() {
    let six = RData::AAAA(AAAA::new(1, 2, 3, 4, 5, 6, 7, 8));
    let records = [("a.test", 300, six), ("a.test", 60, a(1))];
    let message = response("a.test", ResponseCode::NoError, &records);
    assert_eq!(read_a("a.test", &message), found(&[], &["10.0.0.1"], 60));
}

#[test]
fn aliases_are_followed_in_any_order() {
    let records =
        [("c.test", 100, a(1)), ("b.test", 200, alias("C.test")), ("a.test", 50, alias("b.test"))];
    let message = response("a.test", ResponseCode::NoError, &records);
    assert_eq!(read_a("a.test", &message), found(&["b.test", "C.test"], &["10.0.0.1"], 50));
}

#[test]
fn odd_aliases_are_not_told() {
    let odd = RData::CNAME(CNAME(Name::from_labels([&b"o dd"[..], b"test"]).unwrap()));
    let mut message = response("a.test", ResponseCode::NoError, &[("a.test", 50, odd)]);
    let target = Name::from_labels([&b"o dd"[..], b"test"]).unwrap();
    message.add_answer(Record::from_rdata(target, 50, a(1)));
    assert_eq!(read_a("a.test", &message), found(&[], &["10.0.0.1"], 50));
}

#[test]
fn circles_of_aliases_end() {
    let records = [("a.test", 9, alias("b.test")), ("b.test", 9, alias("a.test"))];
    let message = response("a.test", ResponseCode::NoError, &records);
    assert_eq!(read_a("a.test", &message), absent(Absence::Name, 0));
}

#[test]
fn what_holds_for_more_than_31_bits_of_seconds_holds_not_at_all() {
    let message = response("a.test", ResponseCode::NoError, &[("a.test", 1 << 31, a(1))]);
    assert_eq!(read_a("a.test", &message), found(&[], &["10.0.0.1"], 0));
    let message = response("a.test", ResponseCode::NoError, &[("a.test", (1 << 31) - 1, a(1))]);
    assert_eq!(read_a("a.test", &message), found(&[], &["10.0.0.1"], 86_400));
}

#[test]
fn absence_holds_as_the_zone_says() {
    let no_name = || response("a.test", ResponseCode::NXDomain, &[]);
    assert_eq!(read_a("a.test", &no_name()), absent(Absence::Name, 0));
    assert_eq!(read_a("a.test", &with_soa(no_name(), 300, 60)), absent(Absence::Name, 60));
    assert_eq!(read_a("a.test", &with_soa(no_name(), 30, 60)), absent(Absence::Name, 30));
    let long = with_soa(no_name(), 1_000_000, 1_000_000);
    assert_eq!(read_a("a.test", &long), absent(Absence::Name, 10_800));
    let no_data = with_soa(response("a.test", ResponseCode::NoError, &[]), 300, 60);
    assert_eq!(read_a("a.test", &no_data), absent(Absence::Data, 60));
}

#[test]
fn pointers() {
    let asked = question("1.0.0.10.in-addr.arpa", Kind::Ptr);
    let mut message = Message::response(ID, OpCode::Query);
    message.add_query(Query::query(asked.name.clone(), RecordType::PTR));
    for target in [Name::from_labels([&b"o;dd"[..]]).unwrap(), name("Host.test")] {
        let data = RData::PTR(PTR(target));
        message.add_answer(Record::from_rdata(asked.name.clone(), 30, data));
    }
    let answer = Answer { stands_for: Vec::new(), data: Data::Names(vec!["Host.test".to_owned()]) };
    assert_eq!(
        read(&asked, ID, &message.to_vec().unwrap()),
        Some(Reply::Outcome(Outcome::Found(Arc::new(answer)), 30))
    );
}

#[test]
fn what_answers_something_else_is_waited_past() {
    let good = response("a.test", ResponseCode::NoError, &[("a.test", 9, a(1))]);
    let bytes = good.to_vec().unwrap();
    let asked = question("a.test", Kind::A);
    assert!(read(&asked, ID, &bytes).is_some());
    assert_eq!(read(&asked, ID + 1, &bytes), None);
    assert_eq!(read(&question("b.test", Kind::A), ID, &bytes), None);
    assert_eq!(read(&question("a.test", Kind::Aaaa), ID, &bytes), None);
    assert_eq!(read(&asked, ID, &bytes[..11]), None);
    let mut query = good.clone();
    query.metadata.message_type = MessageType::Query;
    assert_eq!(read_a("a.test", &query), None);
    let mut silent = good.clone();
    silent.queries.clear();
    assert_eq!(read_a("a.test", &silent), None);
    let mut other = good;
    other.metadata.op_code = OpCode::Notify;
    assert_eq!(read_a("a.test", &other), None);
}

#[test]
fn refusals() {
    for (code, refusal) in [
        (ResponseCode::ServFail, Refusal::Unable),
        (ResponseCode::Refused, Refusal::Unable),
        (ResponseCode::NotImp, Refusal::NotImplemented),
        (ResponseCode::FormErr, Refusal::Format),
    ] {
        let mut message = response("a.test", code, &[]);
        assert_eq!(read_a("a.test", &message), Some(Reply::Refused(refusal)));
        // As do those that have not understood the question.
        message.queries.clear();
        assert_eq!(read_a("a.test", &message), Some(Reply::Refused(refusal)));
    }
    let message = response("a.test", ResponseCode::YXDomain, &[]);
    let permanent = Reply::Outcome(Outcome::Failed(Failure::Permanent), 0);
    assert_eq!(read_a("a.test", &message), Some(permanent));
}

#[test]
fn answers_that_are_cut_off() {
    let mut message = response("a.test", ResponseCode::NoError, &[("a.test", 9, a(1))]);
    message.metadata.truncation = true;
    assert_eq!(read_a("a.test", &message), Some(Reply::Truncated));
    // Anywhere.
    let bytes = message.to_vec().unwrap();
    for end in 12..bytes.len() {
        let reply = read(&question("a.test", Kind::A), ID, &bytes[..end]);
        assert_eq!(reply, Some(Reply::Truncated), "{end}");
    }
    message.metadata.truncation = false;
    let bytes = message.to_vec().unwrap();
    let reply = read(&question("a.test", Kind::A), ID, &bytes[..bytes.len() - 2]);
    assert_eq!(reply, Some(Reply::Refused(Refusal::Unable)));
}

#[test]
fn no_message_does_harm() {
    let records = [("a.test", 50, alias("b.test")), ("b.test", 100, a(1))];
    let good = with_soa(response("a.test", ResponseCode::NoError, &records), 300, 60);
    let bytes = good.to_vec().unwrap();
    let asked = question("a.test", Kind::A);
    // A generator that gives the same numbers each time.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    for _ in 0..100_000 {
        let mut broken = bytes.clone();
        for _ in 0..=next() % 4 {
            let at = 2 + next() % (broken.len() - 2);
            broken[at] = next() as u8;
        }
        broken.truncate(2 + next() % broken.len());
        let _ = read(&asked, ID, &broken);
    }
}
