//! The order in which a host's addresses are to be tried: RFC 6724, with the tables and in the way
//! of the C library, which keeps to RFC 3484 in some of them. See gai.conf(5).

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, IPv4 as ::ffff:0:0/96, and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    prefix: u128,
    bits: u8,
    value: u32,
}

/// A table of ranges, the longest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table(Vec<Row>);

impl Table {
    fn new(rows: &[(&str, u8, u32)]) -> Self {
        let row = |(prefix, bits, value): &(&str, u8, u32)| {
            let prefix: Ipv6Addr = prefix.parse().expect("an address");
            Row { prefix: prefix.to_bits(), bits: *bits, value: *value }
        };
        Self::sorted(rows.iter().map(row).collect())
    }

    fn sorted(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| std::cmp::Reverse(row.bits));
        Self(rows)
    }

    fn get(&self, address: u128, otherwise: u32) -> u32 {
        let matches = |row: &&Row| {
            row.bits == 0 || (address ^ row.prefix) >> (128 - u32::from(row.bits)) == 0
        };
        self.0.iter().find(matches).map_or(otherwise, |row| row.value)
    }
}

/// What decides the order, from `/etc/gai.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    labels: Table,
    precedences: Table,
    /// Of IPv4 addresses, given as IPv6 ones.
    scopes: Table,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            labels: Table::new(&[
                ("::1", 128, 0),
                ("::", 0, 1),
                ("2002::", 16, 2),
                ("::", 96, 3),
                ("::ffff:0:0", 96, 4),
                ("fec0::", 10, 5),
                ("fc00::", 7, 6),
                ("2001::", 32, 7),
            ]),
            precedences: Table::new(&[
                ("::1", 128, 50),
                ("::", 0, 40),
                ("2002::", 16, 30),
                ("::", 96, 20),
                ("::ffff:0:0", 96, 10),
            ]),
            scopes: Table::new(&[
                ("::ffff:169.254.0.0", 112, LINK_LOCAL),
                ("::ffff:127.0.0.0", 104, LINK_LOCAL),
                ("::ffff:0:0", 96, GLOBAL),
            ]),
        }
    }
}

const LINK_LOCAL: u32 = 2;
const SITE_LOCAL: u32 = 5;
const GLOBAL: u32 = 14;

impl Policy {
    /// Reads the text of the file. A table that it has rows of takes the place of the usual one.
    pub fn parse(text: &str) -> Self {
        let mut policy = Self::default();
        let (mut labels, mut precedences, mut scopes) = (Vec::new(), Vec::new(), Vec::new());
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let (Some(keyword), Some(range), Some(value)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let rows = match keyword {
                "label" => &mut labels,
                "precedence" => &mut precedences,
                "scopev4" => &mut scopes,
                _ => continue,
            };
            rows.extend(row(range, value, keyword == "scopev4"));
        }
        for (rows, table) in [
            (labels, &mut policy.labels),
            (precedences, &mut policy.precedences),
            (scopes, &mut policy.scopes),
        ] {
            if !rows.is_empty() {
                *table = Table::sorted(rows);
            }
        }
        policy
    }

    fn scope(&self, address: IpAddr) -> u32 {
        match address {
            IpAddr::V4(four) => self.scopes.get(bits(four.into()), GLOBAL),
            IpAddr::V6(six) if six.is_multicast() => u32::from(six.octets()[1] & 15),
            IpAddr::V6(six) if six.is_loopback() || six.segments()[0] & 0xffc0 == 0xfe80 => {
                LINK_LOCAL
            }
            IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfec0 => SITE_LOCAL,
            IpAddr::V6(_) => GLOBAL,
        }
    }

    /// Sorts addresses, best first; those that are as good stay in their order.
    pub fn sort(&self, addresses: &mut [IpAddr], source_of: impl Fn(IpAddr) -> Option<Route>) {
        if addresses.len() < 2 {
            return;
        }
        let mut rated: Vec<_> =
            addresses.iter().map(|address| self.rate(*address, source_of(*address))).collect();
        rated.sort_by(Rated::compare);
        for (address, rated) in addresses.iter_mut().zip(rated) {
            *address = rated.address;
        }
    }

    fn rate(&self, address: IpAddr, route: Option<Route>) -> Rated {
        let scope = self.scope(address);
        let label = |address| self.labels.get(bits(address), u32::MAX);
        Rated {
            address,
            scope,
            precedence: self.precedences.get(bits(address), 0),
            same_scope: route.is_some_and(|route| self.scope(route.source) == scope),
            same_label: route.is_some_and(|route| label(route.source) == label(address)),
            common: route.map_or(0, |route| route.common_with(address)),
            route,
        }
    }
}

/// A row of gai.conf. Ranges of IPv4 may be written as such, for the scopes only.
fn row(range: &str, value: &str, is_scope: bool) -> Option<Row> {
    let (prefix, length) = range.split_once('/').map_or((range, None), |(p, l)| (p, Some(l)));
    let address: IpAddr = prefix.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length: u8 = length.map_or(Ok(most), str::parse).ok()?;
    if length > most || (address.is_ipv4() && !is_scope) {
        return None;
    }
    let bits = if address.is_ipv4() { length + 96 } else { length };
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    Some(Row { prefix: self::bits(address) & mask, bits, value: value.parse().ok()? })
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

/// From where this host would talk to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its own address.
    pub source: IpAddr,
    /// How many bits of that are those of the network.
    pub network_bits: u32,
    /// Whether the own address is not to be used for new connections any more.
    pub deprecated: bool,
    /// Whether the own address is the home address of a mobile node.
    pub home: bool,
}

impl Route {
    /// A plain route from an address.
    pub fn new(source: IpAddr) -> Self {
        Self { source, network_bits: 0, deprecated: false, home: false }
    }

    /// How many bits an address has in common with the own one. For IPv4 that means something
    /// within the own network only.
    fn common_with(&self, address: IpAddr) -> u32 {
        match (self.source, address) {
            (IpAddr::V4(source), IpAddr::V4(address)) => {
                let common = (source.to_bits() ^ address.to_bits()).leading_zeros();
                if common >= self.network_bits { common } else { 0 }
            }
            (IpAddr::V6(source), IpAddr::V6(address)) => {
                (source.to_bits() ^ address.to_bits()).leading_zeros()
            }
            _ => 0,
        }
    }
}

struct Rated {
    address: IpAddr,
    route: Option<Route>,
    scope: u32,
    precedence: u32,
    same_scope: bool,
    same_label: bool,
    common: u32,
}

impl Rated {
    /// The rules of section 6, in their order. Rule 7, which is about tunnels, needs to know the
    /// kinds of interfaces and is left out.
    fn compare(&self, other: &Self) -> Ordering {
        let flag = |test: fn(&Route) -> bool| {
            other.route.as_ref().is_some_and(test).cmp(&self.route.as_ref().is_some_and(test))
        };
        let first = |one: bool, two: bool| two.cmp(&one);
        let same_family = self.address.is_ipv4() == other.address.is_ipv4();
        // 1: those that can be reached.
        first(self.route.is_some(), other.route.is_some())
            // 2: from an address of the same scope.
            .then(first(self.same_scope, other.same_scope))
            // 3: not from deprecated addresses.
            .then(flag(|route| route.deprecated).reverse())
            // 4: from home addresses.
            .then(flag(|route| route.home))
            // 5: from an address with the same label.
            .then(first(self.same_label, other.same_label))
            // 6: those of higher precedence.
            .then(other.precedence.cmp(&self.precedence))
            // 8: those of smaller scope.
            .then(self.scope.cmp(&other.scope))
            // 9: those that are nearer.
            .then(if same_family { other.common.cmp(&self.common) } else { Ordering::Equal })
    }
}

/// Whether a host with an own address has IPv4, or IPv6, to the C library's mind.
pub fn counts_as_configured(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four != Ipv4Addr::LOCALHOST,
        IpAddr::V6(six) => !six.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Sorts; `routes` are pairs of an address and the own one towards it.
    fn sorted(policy: &Policy, routes: &[(&str, &str)]) -> Vec<String> {
        let mut addresses: Vec<_> = routes.iter().map(|(to, _)| address(to)).collect();
        policy.sort(&mut addresses, |to| {
            let (_, from) = routes.iter().find(|(text, _)| address(text) == to)?;
            let (from, bits) = from.split_once('/').unwrap_or((from, "0"));
            let source = from.parse().ok()?;
            Some(Route { network_bits: bits.parse().unwrap(), ..Route::new(source) })
        });
        addresses.iter().map(ToString::to_string).collect()
    }

    // The examples of RFC 6724, section 10.2.
    #[test]
    fn examples_of_the_rfc() {
        let policy = Policy::default();
        for [first, second] in [
            [("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")],
            [("198.51.100.121", "198.51.100.117"), ("2001:db8:1::1", "fe80::1")],
            [("2001:db8:1::1", "2001:db8:1::2"), ("10.1.2.3", "10.1.2.4")],
            [("fe80::1", "fe80::2"), ("2001:db8:1::1", "2001:db8:1::2")],
            [("2001:db8:1::1", "2001:db8:1::2"), ("2002:c633:6401::1", "2002:c633:6401::2")],
        ] {
            assert_eq!(sorted(&policy, &[first, second]), [first.0, second.0]);
            assert_eq!(sorted(&policy, &[second, first]), [first.0, second.0]);
        }
    }

    #[test]
    fn what_cannot_be_reached_comes_last() {
        let policy = Policy::default();
        assert_eq!(
            sorted(&policy, &[("2001:db8::1", ""), ("10.0.0.1", "10.0.0.2/24")]),
            ["10.0.0.1", "2001:db8::1"]
        );
    }

    #[test]
    fn those_that_are_as_good_stay_in_their_order() {
        let policy = Policy::default();
        let all = [("10.9.0.1", "10.0.0.2/24"), ("10.3.0.1", "10.0.0.2/24")];
        assert_eq!(sorted(&policy, &all), ["10.9.0.1", "10.3.0.1"]);
    }

    #[test]
    fn nearness_counts_within_the_own_network_of_ipv4() {
        let policy = Policy::default();
        let all = [("10.0.1.7", "10.0.0.2/24"), ("10.0.0.9", "10.0.0.2/24")];
        assert_eq!(sorted(&policy, &all), ["10.0.0.9", "10.0.1.7"]);
        let all = [("2001:db8:9::1", "2001:db8:1::2"), ("2001:db8:1::1", "2001:db8:1::2")];
        assert_eq!(sorted(&policy, &all), ["2001:db8:1::1", "2001:db8:9::1"]);
    }

    #[test]
    fn deprecated_and_home_addresses() {
        let mut addresses = [address("2001:db8::1"), address("2001:db8::2")];
        let policy = Policy::default();
        let route = Route::new(address("2001:db8::9"));
        let last = addresses[1];
        policy.sort(&mut addresses, |to| Some(Route { deprecated: to != last, ..route }));
        assert_eq!(addresses[0], last);
        let last = addresses[1];
        policy.sort(&mut addresses, |to| Some(Route { home: to == last, ..route }));
        assert_eq!(addresses[0], last);
    }

    #[test]
    fn gai_conf_has_the_say() {
        let both = [("2001:db8::1", "2001:db8::2"), ("10.0.0.1", "10.0.0.2")];
        assert_eq!(sorted(&Policy::parse("# nothing\n"), &both)[0], "2001:db8::1");
        // The usual way to prefer IPv4.
        let policy = Policy::parse("precedence ::ffff:0:0/96  100 # prefer\nnonsense\nlabel x 1\n");
        assert_eq!(sorted(&policy, &both)[0], "10.0.0.1");
        assert_eq!(policy.labels, Policy::default().labels);
        let policy = Policy::parse("scopev4 10.0.0.0/8 5\n");
        assert_eq!(policy.scope(address("10.3.3.3")), 5);
        assert_eq!(policy.scope(address("11.3.3.3")), GLOBAL);
        assert_eq!(Policy::parse("label ::1/129 1\nlabel 10.0.0.0/8 1"), Policy::default());
    }

    #[test]
    fn own_addresses_that_count() {
        assert!(!counts_as_configured(address("127.0.0.1")));
        assert!(counts_as_configured(address("127.0.0.2")));
        assert!(!counts_as_configured(address("::1")));
        assert!(counts_as_configured(address("fe80::1")));
    }
}
