//! `/etc/hosts`: names of hosts that are known without asking. See hosts(5).

use crate::lookup::{Found, Wanted};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

/// A line: an address and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The address.
    pub address: IpAddr,
    /// The host's name, then its other names.
    pub names: Vec<String>,
}

/// The lines of the file, and where each name is.
#[derive(Debug, Default)]
pub struct Hosts {
    lines: Vec<Line>,
    /// The lines of each name in lower case, in their order.
    by_name: HashMap<String, Vec<usize>>,
    /// Whether all lines of a name count (`multi on` in host.conf(5)), or only the first.
    multi: bool,
}

impl Hosts {
    /// Reads the text of the file. Lines that are none are left out.
    pub fn parse(text: &str, multi: bool) -> Self {
        let mut hosts = Self { multi, ..Self::default() };
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse) else { continue };
            let names: Vec<_> = words.map(str::to_owned).collect();
            if names.is_empty() {
                continue;
            }
            for name in &names {
                let places = hosts.by_name.entry(name.to_ascii_lowercase()).or_default();
                if places.last() != Some(&hosts.lines.len()) {
                    places.push(hosts.lines.len());
                }
            }
            hosts.lines.push(Line { address, names });
        }
        hosts
    }

    /// All lines, in their order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The addresses of a host.
    pub fn by_name(&self, name: &str, wanted: Wanted) -> Option<Found> {
        let mut found: Option<Found> = None;
        for at in self.by_name.get(&name.to_ascii_lowercase())? {
            let line = &self.lines[*at];
            let Some(address) = as_wanted(line.address, wanted) else { continue };
            let (first, others) = line.names.split_first().expect("lines have names");
            let Some(found) = &mut found else {
                let aliases = others.to_vec();
                found = Some(Found { canonical: first.clone(), aliases, addresses: vec![address] });
                if self.multi {
                    continue;
                }
                break;
            };
            found.addresses.push(address);
            // The names of the other lines are further names of the host.
            if *first != found.canonical {
                found.aliases.push(first.clone());
            }
            found.aliases.extend(others.iter().cloned());
        }
        found
    }

    /// The name of the host with an address, and its other names.
    pub fn by_address(&self, address: IpAddr) -> Option<(&str, &[String])> {
        let wanted = if address.is_ipv4() { Wanted::V4 } else { Wanted::V6 };
        let line =
            self.lines.iter().find(|line| as_wanted(line.address, wanted) == Some(address))?;
        let (first, others) = line.names.split_first()?;
        Some((first, others))
    }
}

/// What a line's address means to those who want such ones. The C library has 127.0.0.1 be the
/// address of hosts that are said to be at ::1.
fn as_wanted(address: IpAddr, wanted: Wanted) -> Option<IpAddr> {
    match (address, wanted) {
        (IpAddr::V6(address), Wanted::V4) => match address.to_ipv4_mapped() {
            Some(mapped) => Some(mapped.into()),
            None => address.is_loopback().then_some(Ipv4Addr::LOCALHOST.into()),
        },
        (IpAddr::V4(_), Wanted::V6) => None,
        _ => Some(address),
    }
}

/// Whether `/etc/host.conf` says that all lines of a name count.
pub fn is_multi(host_conf: &str) -> bool {
    let mut multi = false;
    for line in host_conf.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("multi") {
            multi = words.next() == Some("on");
        }
    }
    multi
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        127.0.0.1 localhost\n\
        ::1 localhost ip6-localhost # also\n\
        10.0.0.1\tHost.example host H\n\
        nonsense x\n10.0.0.9\n#10.0.0.8 y\n\
        10.0.0.2 other host z z\n\
        ::ffff:10.0.0.3 mapped\n";

    fn addresses(hosts: &Hosts, name: &str, wanted: Wanted) -> Vec<String> {
        let found = hosts.by_name(name, wanted);
        found
            .map(|found| found.addresses.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    #[test]
    fn names_are_found_in_any_case() {
        let hosts = Hosts::parse(TEXT, true);
        assert_eq!(hosts.lines().len(), 5);
        assert_eq!(addresses(&hosts, "host.EXAMPLE", Wanted::Both), ["10.0.0.1"]);
        assert_eq!(addresses(&hosts, "x", Wanted::Both), [""; 0]);
        assert_eq!(addresses(&hosts, "localhost", Wanted::Both), ["127.0.0.1", "::1"]);
        assert_eq!(addresses(&hosts, "localhost", Wanted::V6), ["::1"]);
        assert_eq!(addresses(&hosts, "ip6-localhost", Wanted::V4), ["127.0.0.1"]);
        assert_eq!(addresses(&hosts, "mapped", Wanted::V4), ["10.0.0.3"]);
        assert_eq!(addresses(&hosts, "host", Wanted::V6), [""; 0]);
    }

    #[test]
    fn all_lines_of_a_name_count_if_wanted() {
        let found = Hosts::parse(TEXT, true).by_name("host", Wanted::V4).unwrap();
        assert_eq!(found.canonical, "Host.example");
        assert_eq!(found.aliases, ["host", "H", "other", "host", "z", "z"]);
        assert_eq!(found.addresses.len(), 2);
        let found = Hosts::parse(TEXT, false).by_name("host", Wanted::V4).unwrap();
        assert_eq!(found.addresses.len(), 1);
        assert_eq!(found.aliases, ["host", "H"]);
    }

    #[test]
    fn addresses_have_the_names_of_their_first_line() {
        let hosts = Hosts::parse(TEXT, true);
        let (name, others) = hosts.by_address("10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!((name, others.join(" ").as_str()), ("Host.example", "host H"));
        assert_eq!(hosts.by_address("::1".parse().unwrap()).unwrap().0, "localhost");
        assert_eq!(hosts.by_address("10.0.0.9".parse().unwrap()), None);
    }

    #[test]
    fn host_conf() {
        assert!(!is_multi(""));
        assert!(is_multi("order hosts,bind\nmulti on # yes\n"));
        assert!(!is_multi("multi on\nmulti off\n"));
        assert!(!is_multi("# multi on\n"));
    }
}
