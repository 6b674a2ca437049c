//! One question, put to one server after the other until one answers.
//!
//! An [`Exchange`] says whom to ask and how ([`Exchange::step`]); its owner sends the message, hands
//! over what comes back ([`Exchange::received`]), and says so if nothing does ([`Exchange::lost`]).
//! Order, times and what counts as an answer are the C library's, except for what its comments say.

use crate::message::{Failure, Manner, Outcome, Question, Refusal, Reply, read};
use crate::resolv_conf::ResolvConf;
use std::net::SocketAddr;
use std::sync::Arc;

/// A message to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Try {
    /// To whom.
    pub server: SocketAddr,
    /// Whether over TCP, where its length (two bytes, the higher one first) comes before it.
    pub tcp: bool,
    /// For how many nanoseconds to wait for the answer.
    pub patience: u64,
    /// The message.
    pub message: Vec<u8>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// To send a message and to wait for the answer.
    Try(Try),
    /// Nothing: the outcome, and for how many seconds it may be kept.
    Done(Outcome, u32),
}

/// A question on its way.
pub struct Exchange {
    question: Question,
    conf: Arc<ResolvConf>,
    /// With which server to begin.
    first: usize,
    /// How many servers have been asked in this round, and how many rounds there were.
    server: usize,
    round: u32,
    tcp: bool,
    edns: bool,
    random: fn() -> u16,
    id: u16,
    /// What to say if nobody answers.
    failure: Failure,
    done: Option<(Outcome, u32)>,
}

impl Exchange {
    /// `first` is with which of the servers to begin; `random` makes numbers that nobody guesses.
    pub fn new(
        question: Question,
        conf: Arc<ResolvConf>,
        first: usize,
        random: fn() -> u16,
    ) -> Self {
        Self {
            question,
            first,
            server: 0,
            round: 0,
            tcp: conf.tcp,
            edns: conf.edns,
            random,
            id: 0,
            failure: Failure::Unreachable,
            done: None,
            conf,
        }
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        if let Some((outcome, ttl)) = &self.done {
            return Step::Done(outcome.clone(), *ttl);
        }
        if self.round >= self.conf.attempts || self.conf.servers.is_empty() {
            return Step::Done(Outcome::Failed(self.failure), 0);
        }
        // A new one each time, so that a late answer to an earlier try is not taken for another's.
        self.id = (self.random)();
        let manner =
            Manner { recurse: self.conf.recurse, edns: self.edns, authentic: self.conf.trust_ad };
        let Some(message) = self.question.encode(self.id, manner) else {
            return Step::Done(Outcome::Failed(Failure::Permanent), 0);
        };
        let servers = &self.conf.servers;
        let server = &servers[(self.first + self.server) % servers.len()];
        Step::Try(Try {
            server: if self.tcp { server.tcp } else { server.udp },
            tcp: self.tcp,
            patience: self.patience(),
            message,
        })
    }

    /// Longer for each server, in a way that makes the sum about the same for any number of them.
    fn patience(&self) -> u64 {
        let base = self.conf.timeout;
        match self.server {
            0 => base,
            at => ((base << at.min(8)) / self.conf.servers.len() as u64).max(base.min(SECOND)),
        }
    }

    /// Takes a message that has come from the server of the last try. False if it is not the
    /// answer: to be waited for further.
    pub fn received(&mut self, message: &[u8]) -> bool {
        let Some(reply) = read(&self.question, self.id, message) else { return false };
        match reply {
            Reply::Outcome(outcome, ttl) => self.done = Some((outcome, ttl)),
            Reply::Truncated if self.tcp || !self.conf.retry_over_tcp => {
                self.lost(Failure::Server);
            }
            // The same server again.
            Reply::Truncated => self.tcp = true,
            // The C library gives up here.
            Reply::Refused(Refusal::Format | Refusal::NotImplemented) if self.edns => {
                self.edns = false;
            }
            Reply::Refused(Refusal::Format) => {
                self.done = Some((Outcome::Failed(Failure::Permanent), 0));
            }
            Reply::Refused(_) => self.lost(Failure::Server),
        }
        true
    }

    /// Notes that the last try brought nothing.
    pub fn lost(&mut self, failure: Failure) {
        // That nobody is there is only said if that holds for all.
        if self.failure == Failure::Unreachable || failure != Failure::Unreachable {
            self.failure = failure;
        }
        self.tcp = self.conf.tcp;
        self.server += 1;
        if self.server == self.conf.servers.len() {
            self.server = 0;
            self.round += 1;
        }
    }
}

const SECOND: u64 = 1_000_000_000;
