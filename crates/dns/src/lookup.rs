//! Looking for a host: in the sources that nsswitch.conf names, under the names that the search
//! list makes of the one given.
//!
//! Straight-line code: who asks ([`Ask`]) may wait.

use crate::hosts::Hosts;
use crate::message::{Absence, Data, Failure, Kind, Outcome};
use crate::name::{self, Name};
use crate::nsswitch::{Service, Source, Status};
use crate::resolv_conf::ResolvConf;
use std::net::IpAddr;
use std::sync::Arc;

/// Which addresses are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
    /// All.
    Both,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub canonical: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is no such host.
    NoName,
    /// There is, but it has no such addresses.
    NoData,
    /// Nobody could say.
    TryAgain,
    /// Something is wrong that trying again does not mend.
    Permanent,
}

/// Who asks name servers.
pub trait Ask {
    /// What a question may be ended by.
    type Error;

    /// Asks several things of a name at once. The outcomes are in the order of the kinds.
    ///
    /// # Errors
    ///
    /// Whatever ends the wait for the answers.
    fn ask(
        &mut self,
        conf: &ResolvConf,
        name: &Name,
        kinds: &[Kind],
    ) -> Result<Vec<Outcome>, Self::Error>;
}

/// What this host's files say.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where to look.
    pub services: Arc<Vec<Service>>,
    /// `/etc/hosts`; none if it cannot be read.
    pub hosts: Option<Arc<Hosts>>,
    /// Whom to ask.
    pub conf: Arc<ResolvConf>,
}

/// The result of one source.
type Looked = Result<Found, (Status, Miss)>;

/// Why name servers do not say which host has a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    Absent(Absence),
    Failed(Failure),
}

impl Why {
    fn miss(self) -> (Status, Miss) {
        match self {
            Self::Absent(Absence::Name) => (Status::NotFound, Miss::NoName),
            Self::Absent(Absence::Data) => (Status::NotFound, Miss::NoData),
            Self::Failed(Failure::Unreachable) => (Status::Unavailable, Miss::TryAgain),
            Self::Failed(Failure::Timeout | Failure::Server) => (Status::TryAgain, Miss::TryAgain),
            Self::Failed(Failure::Permanent) => (Status::Unavailable, Miss::Permanent),
        }
    }
}

impl Configuration {
    /// The host with a name.
    ///
    /// # Errors
    ///
    /// That of `ask`.
    pub fn forward<A: Ask>(
        &self,
        ask: &mut A,
        text: &[u8],
        wanted: Wanted,
    ) -> Result<Result<Found, Miss>, A::Error> {
        self.each(|this, source| match source {
            Source::Files => Ok(match &this.hosts {
                None => Err((Status::Unavailable, Miss::NoName)),
                Some(hosts) => hosts
                    .by_name(&String::from_utf8_lossy(text), wanted)
                    .ok_or((Status::NotFound, Miss::NoName)),
            }),
            Source::Dns => Ok(this.search(ask, text, wanted)?.map_err(Why::miss)),
        })
    }

    /// The host with an address.
    ///
    /// # Errors
    ///
    /// That of `ask`.
    pub fn reverse<A: Ask>(
        &self,
        ask: &mut A,
        address: IpAddr,
    ) -> Result<Result<Found, Miss>, A::Error> {
        // It is the same host, to the C library's mind: that of glibc 2.43, earlier ones thought so of
        // name servers alone.
        let plain = address.to_canonical();
        self.each(|this, source| match source {
            Source::Files => {
                let hosts = this.hosts.as_deref();
                Ok(match hosts.map(|hosts| hosts.by_address(plain)) {
                    None => Err((Status::Unavailable, Miss::NoName)),
                    Some(None) => Err((Status::NotFound, Miss::NoName)),
                    Some(Some((name, aliases))) => Ok(Found {
                        canonical: name.to_owned(),
                        aliases: aliases.to_vec(),
                        addresses: vec![address],
                    }),
                })
            }
            Source::Dns => {
                let name = name::parse(arpa(plain).as_bytes()).expect("a valid name");
                let outcome = ask.ask(&this.conf, &name, &[Kind::Ptr])?.pop();
                Ok(pointer(outcome, address).map_err(Why::miss))
            }
        })
    }

    /// Looks in each source until one has the last word.
    fn each<E>(
        &self,
        mut look: impl FnMut(&Self, Source) -> Result<Looked, E>,
    ) -> Result<Result<Found, Miss>, E> {
        let mut miss = Miss::NoName;
        for service in self.services.iter() {
            let (status, result) = match look(self, service.source)? {
                Ok(found) => (Status::Success, Ok(found)),
                Err((status, why)) => {
                    // That a file does not have it says less than what servers say.
                    if service.source == Source::Dns {
                        miss = why;
                    }
                    (status, Err(miss))
                }
            };
            if service.returns(status) {
                return Ok(result);
            }
        }
        Ok(Err(miss))
    }

    /// Asks for a name, as it is and in the domains of the search list, in the order that the
    /// number of its dots asks for.
    fn search<A: Ask>(
        &self,
        ask: &mut A,
        text: &[u8],
        wanted: Wanted,
    ) -> Result<Result<Found, Why>, A::Error> {
        let conf = &*self.conf;
        let dots = text.iter().filter(|byte| **byte == b'.').count();
        let is_full = text.ends_with(b".");
        let as_it_is_first = dots >= conf.ndots as usize || is_full;
        let as_it_is = |ask: &mut A| self.query(ask, text, wanted);
        let mut first = None;
        if as_it_is_first {
            match as_it_is(ask)? {
                Err(why) if !is_full => first = Some(why),
                result => return Ok(result),
            }
        }
        let mut last = Why::Absent(Absence::Name);
        let mut no_data = None;
        let mut server_failed = None;
        let mut asked_as_it_is = as_it_is_first;
        for domain in &conf.search {
            let domain = domain.trim_matches('.');
            asked_as_it_is |= domain.is_empty();
            match self.query(ask, &[text, b".", domain.as_bytes()].concat(), wanted)? {
                Ok(found) => return Ok(Ok(found)),
                Err(why) => last = why,
            }
            match last {
                Why::Absent(Absence::Name) => {}
                Why::Absent(Absence::Data) => no_data = Some(last),
                // They may refuse for this domain only.
                Why::Failed(Failure::Server) => server_failed = Some(last),
                Why::Failed(_) => break,
            }
        }
        if !(asked_as_it_is || (conf.no_tld_query && dots == 0)) {
            match as_it_is(ask)? {
                Ok(found) => return Ok(Ok(found)),
                Err(why) => last = why,
            }
        }
        // What was asked first is what was meant.
        Ok(Err(first.or(no_data).or(server_failed).unwrap_or(last)))
    }

    /// Asks for the addresses of a full name.
    fn query<A: Ask>(
        &self,
        ask: &mut A,
        text: &[u8],
        wanted: Wanted,
    ) -> Result<Result<Found, Why>, A::Error> {
        let Some(name) = name::parse(text) else {
            return Ok(Err(Why::Failed(Failure::Permanent)));
        };
        // The C library does not believe answers for odd names.
        if !name::is_of_host(&name) {
            return Ok(Err(Why::Absent(Absence::Name)));
        }
        let kinds: &[Kind] = match wanted {
            Wanted::V4 => &[Kind::A],
            Wanted::V6 if self.conf.no_aaaa => &[],
            Wanted::V6 => &[Kind::Aaaa],
            Wanted::Both if self.conf.no_aaaa => &[Kind::A],
            Wanted::Both => &[Kind::A, Kind::Aaaa],
        };
        Ok(combine(&name, ask.ask(&self.conf, &name, kinds)?))
    }
}

/// One host of the outcomes for several kinds of address: what was found counts, if only some was.
fn combine(name: &Name, outcomes: Vec<Outcome>) -> Result<Found, Why> {
    let mut found: Option<Found> = None;
    let mut why = None;
    for outcome in outcomes {
        match outcome {
            Outcome::Found(answer) => {
                let Data::Addresses(addresses) = &answer.data else { continue };
                found
                    .get_or_insert_with(|| {
                        // Written as it was asked for, whoever asked before.
                        let mut aliases = vec![name::text(name)];
                        aliases.extend(answer.stands_for.iter().cloned());
                        let canonical = aliases.pop().expect("there is one");
                        Found { canonical, aliases, addresses: Vec::new() }
                    })
                    .addresses
                    .extend(addresses);
            }
            Outcome::Absent(absence) => why = worse(why, Why::Absent(absence)),
            Outcome::Failed(failure) => why = worse(why, Why::Failed(failure)),
        }
    }
    found.ok_or(why.unwrap_or(Why::Absent(Absence::Data)))
}

/// The one of two reasons that says more: that asking again may help, then that there is a name.
fn worse(one: Option<Why>, other: Why) -> Option<Why> {
    let rank = |why: &Why| match why {
        Why::Failed(Failure::Timeout) => 0,
        Why::Failed(Failure::Server) => 1,
        Why::Failed(Failure::Unreachable) => 2,
        Why::Failed(Failure::Permanent) => 3,
        Why::Absent(Absence::Data) => 4,
        Why::Absent(Absence::Name) => 5,
    };
    one.into_iter().chain([other]).min_by_key(rank)
}

/// The host of the outcome for the name that stands for an address.
fn pointer(outcome: Option<Outcome>, address: IpAddr) -> Result<Found, Why> {
    match outcome {
        Some(Outcome::Found(answer)) => match &answer.data {
            // Only one is the host's name, to the C library's mind.
            Data::Names(names) if !names.is_empty() => Ok(Found {
                canonical: names[0].clone(),
                aliases: Vec::new(),
                addresses: vec![address],
            }),
            _ => Err(Why::Absent(Absence::Data)),
        },
        Some(Outcome::Absent(absence)) => Err(Why::Absent(absence)),
        Some(Outcome::Failed(failure)) => Err(Why::Failed(failure)),
        None => Err(Why::Absent(Absence::Name)),
    }
}

/// The name that stands for an address.
fn arpa(address: IpAddr) -> String {
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(six) => {
            let mut name = String::with_capacity(72);
            for byte in six.octets().iter().rev() {
                name.push_str(&format!("{:x}.{:x}.", byte & 15, byte >> 4));
            }
            name + "ip6.arpa"
        }
    }
}
