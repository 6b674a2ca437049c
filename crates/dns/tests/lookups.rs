//! Where hosts are looked for, and under which names.

use greenloop_dns::hosts::Hosts;
use greenloop_dns::lookup::{Ask, Configuration, Found, Miss, Wanted};
use greenloop_dns::message::{Absence, Answer, Data, Failure, Kind, Outcome};
use greenloop_dns::name::{Name, text};
use greenloop_dns::nsswitch;
use greenloop_dns::resolv_conf::{ResolvConf, Surroundings};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Name servers that know this much, and what they have been asked.
#[derive(Default)]
struct Servers {
    known: HashMap<(String, &'static str), Outcome>,
    asked: Vec<String>,
}

impl Servers {
    fn knows(mut self, name: &str, kind: Kind, outcome: Outcome) -> Self {
        self.known.insert((name.to_owned(), kind.as_str()), outcome);
        self
    }

    fn a(self, name: &str, address: &str) -> Self {
        self.knows(name, Kind::A, addresses(&[], address))
    }
}

impl Ask for Servers {
    type Error = Infallible;

    fn ask(
        &mut self,
        _: &ResolvConf,
        name: &Name,
        kinds: &[Kind],
    ) -> Result<Vec<Outcome>, Infallible> {
        let name = text(name);
        let all: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        self.asked.push(format!("{name} {}", all.join("+")));
        let outcome = |kind: &Kind| {
            let known = self.known.get(&(name.to_ascii_lowercase(), kind.as_str())).cloned();
            known.unwrap_or(Outcome::Absent(Absence::Name))
        };
        Ok(kinds.iter().map(outcome).collect())
    }
}

fn addresses(stands_for: &[&str], address: &str) -> Outcome {
    Outcome::Found(Arc::new(Answer {
        stands_for: stands_for.iter().map(|name| (*name).to_owned()).collect(),
        data: Data::Addresses(vec![address.parse().unwrap()]),
    }))
}

fn configuration(resolv_conf: &str, nsswitch: &str) -> Configuration {
    let hosts = "10.1.0.1 inhosts.test inhosts\n127.0.0.1 localhost\n::1 localhost\n";
    Configuration {
        services: Arc::new(nsswitch::parse(nsswitch)),
        hosts: Some(Arc::new(Hosts::parse(hosts, true))),
        conf: Arc::new(ResolvConf::parse(resolv_conf, &Surroundings::default(), &|_| None)),
    }
}

fn forward(
    configuration: &Configuration,
    servers: &mut Servers,
    name: &str,
) -> Result<Found, Miss> {
    let Ok(result) = configuration.forward(servers, name.as_bytes(), Wanted::V4);
    result
}

const SEARCH: &str = "search corp.test other.test\n";

/// The names asked for when looking for one that does not exist.
fn tried(resolv_conf: &str, name: &str) -> Vec<String> {
    let mut servers = Servers::default();
    assert_eq!(forward(&configuration(resolv_conf, ""), &mut servers, name), Err(Miss::NoName));
    servers.asked.iter().map(|asked| asked.trim_end_matches(" A").to_owned()).collect()
}

#[test]
fn files_come_first() {
    let mut servers = Servers::default();
    let found = forward(&configuration("", ""), &mut servers, "INHOSTS").unwrap();
    assert_eq!(found.canonical, "inhosts.test");
    assert!(servers.asked.is_empty());
}

#[test]
fn sources_are_asked_as_nsswitch_says() {
    let mut servers = Servers::default().a("inhosts.test", "10.9.9.9");
    let first = configuration("", "hosts: dns files");
    let found = forward(&first, &mut servers, "inhosts.test").unwrap();
    assert_eq!(found.addresses[0].to_string(), "10.9.9.9");
    // Where name servers do not know it, files are looked in.
    let found = forward(&first, &mut Servers::default(), "inhosts.test").unwrap();
    assert_eq!(found.addresses[0].to_string(), "10.1.0.1");
    let strict = configuration("", "hosts: dns [NOTFOUND=return] files");
    let missed = forward(&strict, &mut Servers::default(), "inhosts.test");
    assert_eq!(missed, Err(Miss::NoName));
    let mut servers = Servers::default();
    let files = configuration("", "hosts: files");
    assert_eq!(forward(&files, &mut servers, "other.test"), Err(Miss::NoName));
    assert!(servers.asked.is_empty());
}

#[test]
fn names_are_searched_for_by_the_number_of_their_dots() {
    let both = ["host.corp.test", "host.other.test", "host"];
    assert_eq!(tried(SEARCH, "host"), both);
    assert_eq!(tried(SEARCH, "a.b"), ["a.b", "a.b.corp.test", "a.b.other.test"]);
    assert_eq!(tried(SEARCH, "host."), ["host"]);
    let more = format!("{SEARCH}options ndots:2\n");
    assert_eq!(tried(&more, "a.b"), ["a.b.corp.test", "a.b.other.test", "a.b"]);
    let none = format!("{SEARCH}options ndots:0\n");
    assert_eq!(tried(&none, "host"), ["host", "host.corp.test", "host.other.test"]);
    let no_top = format!("{SEARCH}options no-tld-query\n");
    assert_eq!(tried(&no_top, "host"), both[..2]);
    assert_eq!(tried("search .\n", "host"), ["host"]);
}

#[test]
fn the_first_domain_that_has_it_counts() {
    let mut servers = Servers::default().a("host.other.test", "10.0.0.2").a("host", "10.0.0.3");
    let found = forward(&configuration(SEARCH, ""), &mut servers, "host").unwrap();
    assert_eq!((found.canonical.as_str(), found.aliases.len()), ("host.other.test", 0));
    assert_eq!(servers.asked, ["host.corp.test A", "host.other.test A"]);
}

#[test]
fn the_search_ends_where_nobody_answers() {
    let silent = Outcome::Failed(Failure::Timeout);
    let mut servers = Servers::default().knows("host.corp.test", Kind::A, silent);
    let missed = forward(&configuration(SEARCH, ""), &mut servers, "host");
    assert_eq!(missed, Err(Miss::NoName));
    assert_eq!(servers.asked, ["host.corp.test A", "host A"]);
    // Servers that refuse one domain may have another.
    let refused = Outcome::Failed(Failure::Server);
    let mut servers = Servers::default().knows("host.corp.test", Kind::A, refused);
    let missed = forward(&configuration(SEARCH, ""), &mut servers, "host");
    assert_eq!(missed, Err(Miss::TryAgain));
    assert_eq!(servers.asked.len(), 3);
}

#[test]
fn that_there_is_a_name_is_told() {
    let no_data = Outcome::Absent(Absence::Data);
    let mut servers = Servers::default().knows("host.corp.test", Kind::A, no_data);
    let missed = forward(&configuration(SEARCH, ""), &mut servers, "host");
    assert_eq!(missed, Err(Miss::NoData));
}

#[test]
fn both_families_make_one_host() {
    let mut servers = Servers::default()
        .knows("www.test", Kind::A, addresses(&["alias.test", "Real.test"], "10.0.0.1"))
        .knows("www.test", Kind::Aaaa, addresses(&["alias.test", "Real.test"], "2001:db8::1"));
    let plain = configuration("", "");
    let Ok(found) = plain.forward(&mut servers, b"www.test", Wanted::Both);
    let found = found.unwrap();
    assert_eq!(found.canonical, "Real.test");
    assert_eq!(found.aliases, ["www.test", "alias.test"]);
    assert_eq!(found.addresses.len(), 2);
    assert_eq!(servers.asked, ["www.test A+AAAA"]);
    // One is enough, whatever becomes of the other.
    for outcome in [Outcome::Absent(Absence::Data), Outcome::Failed(Failure::Timeout)] {
        servers = servers.knows("www.test", Kind::Aaaa, outcome);
        let Ok(found) = plain.forward(&mut servers, b"www.test", Wanted::Both);
        assert_eq!(found.unwrap().addresses.len(), 1);
    }
}

#[test]
fn ipv6_may_be_left_out() {
    let mut servers = Servers::default().a("www.test", "10.0.0.1");
    let without = configuration("options no-aaaa\n", "");
    let Ok(found) = without.forward(&mut servers, b"www.test", Wanted::Both);
    assert_eq!(found.unwrap().addresses.len(), 1);
    assert_eq!(servers.asked, ["www.test A"]);
    let Ok(missed) = without.forward(&mut servers, b"www.test", Wanted::V6);
    assert_eq!(missed, Err(Miss::NoData));
}

#[test]
fn odd_names_are_not_asked_for() {
    let mut servers = Servers::default();
    let plain = configuration("", "");
    assert_eq!(forward(&plain, &mut servers, "-minus.test"), Err(Miss::NoName));
    assert_eq!(forward(&plain, &mut servers, "sp ace.test"), Err(Miss::NoName));
    assert_eq!(forward(&plain, &mut servers, "a..test"), Err(Miss::Permanent));
    assert!(servers.asked.is_empty());
}

#[test]
fn hosts_are_found_by_their_addresses() {
    let names = |names: &[&str]| {
        let data = Data::Names(names.iter().map(|name| (*name).to_owned()).collect());
        Outcome::Found(Arc::new(Answer { stands_for: Vec::new(), data }))
    };
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    let mut servers = Servers::default()
        .knows("3.2.1.10.in-addr.arpa", Kind::Ptr, names(&["one.test", "two.test"]))
        .knows(six, Kind::Ptr, names(&["six.test"]));
    let plain = configuration("", "");
    let mut reverse = |address: &str| {
        let Ok(found) = plain.reverse(&mut servers, address.parse().unwrap());
        found
            .map(|found| (found.canonical, found.aliases.join(" "), found.addresses[0].to_string()))
    };
    let told = |name: &str, aliases: &str, address: &str| {
        Ok((name.to_owned(), aliases.to_owned(), address.to_owned()))
    };
    assert_eq!(reverse("10.1.0.1"), told("inhosts.test", "inhosts", "10.1.0.1"));
    assert_eq!(reverse("10.1.2.3"), told("one.test", "", "10.1.2.3"));
    assert_eq!(reverse("2001:db8::1"), told("six.test", "", "2001:db8::1"));
    assert_eq!(reverse("::ffff:10.1.2.3"), told("one.test", "", "::ffff:10.1.2.3"));
    assert_eq!(reverse("10.1.2.4"), Err(Miss::NoName));
}

#[test]
fn without_the_file_the_next_source_is_asked() {
    let mut servers = Servers::default().a("inhosts.test", "10.0.0.1");
    let no_file = Configuration { hosts: None, ..configuration("", "") };
    assert!(forward(&no_file, &mut servers, "inhosts.test").is_ok());
    assert!(forward(&no_file, &mut servers, "localhost").is_err());
}
