//! Which server is asked when, how, and for how long.

use greenloop_dns::exchange::{Exchange, Step, Try};
use greenloop_dns::message::{Absence, Failure, Kind, Outcome, Question};
use greenloop_dns::name::parse;
use greenloop_dns::resolv_conf::{ResolvConf, Server};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const SECOND: u64 = 1_000_000_000;

/// Other numbers each time.
fn numbers() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(7);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn conf(servers: usize) -> ResolvConf {
    let server =
        |last| Server { udp: ([10, 0, 0, last], 53).into(), tcp: ([10, 0, 0, last], 5353).into() };
    ResolvConf { servers: (1..).take(servers).map(server).collect(), ..ResolvConf::default() }
}

fn start(conf: ResolvConf, first: usize) -> Exchange {
    let name = parse(b"www.test").unwrap();
    Exchange::new(Question { name, kind: Kind::A }, Arc::new(conf), first, numbers)
}

fn attempt(exchange: &mut Exchange) -> Try {
    match exchange.step() {
        Step::Try(attempt) => attempt,
        Step::Done(outcome, _) => panic!("{outcome:?}"),
    }
}

fn outcome(exchange: &mut Exchange) -> Outcome {
    match exchange.step() {
        Step::Done(outcome, _) => outcome,
        Step::Try(attempt) => panic!("{attempt:?}"),
    }
}

/// What a server says to a message.
fn reply(to: &Try, code: ResponseCode) -> Vec<u8> {
    let mut message = Message::from_vec(&to.message).unwrap().into_response();
    message.metadata.response_code = code;
    message.edns = None;
    message.to_vec().unwrap()
}

fn truncated(to: &Try) -> Vec<u8> {
    let mut message = Message::from_vec(&to.message).unwrap().into_response();
    message.metadata.truncation = true;
    message.to_vec().unwrap()
}

fn has_edns(attempt: &Try) -> bool {
    Message::from_vec(&attempt.message).unwrap().edns.is_some()
}

#[test]
fn servers_are_asked_in_turn_for_longer_each() {
    let mut exchange = start(conf(3), 0);
    let mut asked = Vec::new();
    while let Step::Try(attempt) = exchange.step() {
        assert!(!attempt.tcp);
        asked.push((attempt.server.to_string(), attempt.patience / 1_000_000));
        exchange.lost(Failure::Timeout);
    }
    let one = [
        ("10.0.0.1:53".to_owned(), 5000),
        ("10.0.0.2:53".to_owned(), 3333),
        ("10.0.0.3:53".to_owned(), 6666),
    ];
    assert_eq!(asked, [one.clone(), one].concat());
    assert_eq!(outcome(&mut exchange), Outcome::Failed(Failure::Timeout));
}

#[test]
fn the_wait_is_not_less_than_a_second_or_what_was_asked_for() {
    for (timeout, least) in [(SECOND, SECOND), (SECOND / 10, SECOND / 10)] {
        let mut exchange = start(ResolvConf { timeout, ..conf(3) }, 0);
        assert_eq!(attempt(&mut exchange).patience, timeout);
        exchange.lost(Failure::Timeout);
        assert_eq!(attempt(&mut exchange).patience, least);
    }
}

#[test]
fn any_server_may_be_the_first() {
    let mut exchange = start(conf(2), 5);
    assert_eq!(attempt(&mut exchange).server.to_string(), "10.0.0.2:53");
    exchange.lost(Failure::Timeout);
    assert_eq!(attempt(&mut exchange).server.to_string(), "10.0.0.1:53");
}

#[test]
fn an_answer_ends_it() {
    let mut exchange = start(conf(2), 0);
    let asked = attempt(&mut exchange);
    let message = Message::from_vec(&asked.message).unwrap();
    let query = Query::query(parse(b"www.test").unwrap(), RecordType::A);
    assert_eq!(message.queries, [query]);
    assert!(exchange.received(&reply(&asked, ResponseCode::NXDomain)));
    assert_eq!(exchange.step(), Step::Done(Outcome::Absent(Absence::Name), 0));
}

#[test]
fn late_answers_to_earlier_tries_are_none() {
    let mut exchange = start(conf(1), 0);
    let first = attempt(&mut exchange);
    exchange.lost(Failure::Timeout);
    let second = attempt(&mut exchange);
    assert_ne!(first.message[..2], second.message[..2]);
    assert!(!exchange.received(&reply(&first, ResponseCode::NXDomain)));
    assert!(exchange.received(&reply(&second, ResponseCode::NXDomain)));
}

#[test]
fn the_next_server_is_asked_if_one_will_not_answer() {
    let mut exchange = start(conf(2), 0);
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let asked = attempt(&mut exchange);
        assert!(exchange.received(&reply(&asked, code)));
    }
    assert_eq!(attempt(&mut exchange).server.to_string(), "10.0.0.1:53");
    for _ in 0..2 {
        exchange.lost(Failure::Unreachable);
    }
    // That servers refused says more than that one could not be reached.
    assert_eq!(outcome(&mut exchange), Outcome::Failed(Failure::Server));
}

#[test]
fn nobody_is_there_only_if_that_holds_for_all() {
    let mut exchange = start(conf(1), 0);
    exchange.lost(Failure::Unreachable);
    exchange.lost(Failure::Unreachable);
    assert_eq!(outcome(&mut exchange), Outcome::Failed(Failure::Unreachable));
    assert_eq!(outcome(&mut start(conf(0), 0)), Outcome::Failed(Failure::Unreachable));
}

#[test]
fn answers_that_are_cut_off_are_asked_for_over_tcp() {
    let mut exchange = start(conf(2), 0);
    let asked = attempt(&mut exchange);
    assert!(exchange.received(&truncated(&asked)));
    let asked = attempt(&mut exchange);
    assert_eq!((asked.tcp, asked.server.to_string().as_str()), (true, "10.0.0.1:5353"));
    // One that does so over TCP is of no use; the next one is asked over UDP again.
    assert!(exchange.received(&truncated(&asked)));
    let asked = attempt(&mut exchange);
    assert_eq!((asked.tcp, asked.server.to_string().as_str()), (false, "10.0.0.2:53"));
    let mut exchange = start(ResolvConf { retry_over_tcp: false, ..conf(1) }, 0);
    for _ in 0..2 {
        let asked = attempt(&mut exchange);
        assert!(exchange.received(&truncated(&asked)));
    }
    assert_eq!(outcome(&mut exchange), Outcome::Failed(Failure::Server));
}

#[test]
fn tcp_from_the_start() {
    let mut exchange = start(ResolvConf { tcp: true, ..conf(2) }, 0);
    assert!(attempt(&mut exchange).tcp);
    exchange.lost(Failure::Server);
    assert!(attempt(&mut exchange).tcp);
}

#[test]
fn servers_that_do_not_know_edns_are_asked_without() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp] {
        let mut exchange = start(ResolvConf { edns: true, ..conf(2) }, 0);
        let asked = attempt(&mut exchange);
        assert!(has_edns(&asked));
        assert!(exchange.received(&reply(&asked, code)));
        let again = attempt(&mut exchange);
        assert_eq!(again.server, asked.server);
        assert!(!has_edns(&again));
    }
}

#[test]
fn a_server_that_does_not_understand_has_the_last_word() {
    let mut exchange = start(conf(2), 0);
    let asked = attempt(&mut exchange);
    assert!(exchange.received(&reply(&asked, ResponseCode::FormErr)));
    assert_eq!(outcome(&mut exchange), Outcome::Failed(Failure::Permanent));
}
