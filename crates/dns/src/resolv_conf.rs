//! `/etc/resolv.conf`: whom to ask, and how. See resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// The port of name servers.
pub const PORT: u16 = 53;

/// As many servers as the C library asks.
const MAX_SERVERS: usize = 3;
const MAX_NDOTS: u32 = 15;
const MAX_TIMEOUT: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;

/// A name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it takes datagrams.
    pub udp: SocketAddr,
    /// Where it takes connections.
    pub tcp: SocketAddr,
}

impl Server {
    /// One on the usual port.
    pub fn new(udp: SocketAddr) -> Self {
        Self { udp, tcp: udp }
    }
}

/// What the file says, and the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask, in this order.
    pub servers: Vec<Server>,
    /// The domains that names may be in which are not full ones.
    pub search: Vec<String>,
    /// Names with so many dots are tried as full ones first.
    pub ndots: u32,
    /// For how many nanoseconds to wait for the first server.
    pub timeout: u64,
    /// How many rounds to make.
    pub attempts: u32,
    /// Whether to begin with another server each time.
    pub rotate: bool,
    /// Whether to say that datagrams of more than 512 bytes are taken.
    pub edns: bool,
    /// Whether to use TCP from the start.
    pub tcp: bool,
    /// Whether to ask one question after the other.
    pub one_by_one: bool,
    /// Whether IPv6 addresses are not asked for.
    pub no_aaaa: bool,
    /// Whether names without a dot are not asked for as they are.
    pub no_tld_query: bool,
    /// Whether to ask if data is authentic.
    pub trust_ad: bool,
    /// Whether the file is not read again when it has changed.
    pub no_reload: bool,
    /// Whether servers are to ask others. (Not in the file.)
    pub recurse: bool,
    /// Whether to ask over TCP for answers that are cut off; else they count as none. (Not in the
    /// file.)
    pub retry_over_tcp: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: 5_000_000_000,
            attempts: 2,
            rotate: false,
            edns: false,
            tcp: false,
            one_by_one: false,
            no_aaaa: false,
            no_tld_query: false,
            trust_ad: false,
            no_reload: false,
            recurse: true,
            retry_over_tcp: true,
        }
    }
}

/// What else has a say.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The name of this host, whose domain is searched if the file names none.
    pub host_name: String,
    /// `LOCALDOMAIN`: domains to search in place of those of the file.
    pub local_domain: Option<String>,
    /// `RES_OPTIONS`: options that come after those of the file.
    pub options: Option<String>,
}

impl ResolvConf {
    /// Reads the text of the file; an empty one if there is none. What is not understood is left
    /// out.
    pub fn parse(text: &str, around: &Surroundings, scope: &dyn Fn(&str) -> Option<u32>) -> Self {
        let mut conf = Self::default();
        let mut search = None;
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            // The keyword begins the line.
            let keyword = words.next().filter(|word| line.starts_with(word)).unwrap_or_default();
            match keyword {
                "nameserver" => {
                    if let Some(server) = words.next().and_then(|word| server(word, scope))
                        && conf.servers.len() < MAX_SERVERS
                    {
                        conf.servers.push(server);
                    }
                }
                "domain" => search = words.next().map(|domain| vec![domain.to_owned()]).or(search),
                "search" => {
                    let domains: Vec<_> = words.map(str::to_owned).collect();
                    search = if domains.is_empty() { search } else { Some(domains) };
                }
                "options" => conf.take_options(words),
                _ => {}
            }
        }
        if let Some(domains) = &around.local_domain {
            search = Some(domains.split_ascii_whitespace().map(str::to_owned).collect());
        }
        conf.search = search.unwrap_or_else(|| {
            let domain = around.host_name.split_once('.').map(|(_, domain)| domain.to_owned());
            domain.into_iter().collect()
        });
        if let Some(options) = &around.options {
            conf.take_options(options.split_ascii_whitespace());
        }
        if conf.servers.is_empty() {
            conf.servers.push(Server::new((Ipv4Addr::LOCALHOST, PORT).into()));
        }
        conf
    }

    fn take_options<'a>(&mut self, options: impl Iterator<Item = &'a str>) {
        for option in options {
            let (name, value) = option.split_once(':').unwrap_or((option, ""));
            let number = number(value);
            match name {
                "ndots" => self.ndots = number.min(MAX_NDOTS),
                // Not at all would be of no use.
                "timeout" => self.set_timeout(number.min(MAX_TIMEOUT)),
                "attempts" => self.attempts = number.clamp(1, MAX_ATTEMPTS),
                "rotate" => self.rotate = true,
                "edns0" => self.edns = true,
                "use-vc" => self.tcp = true,
                // Each question has a socket of its own anyway, as "reopen" asks for.
                "single-request" | "single-request-reopen" => {
                    self.one_by_one |= name == "single-request";
                }
                "no-aaaa" => self.no_aaaa = true,
                "no-tld-query" => self.no_tld_query = true,
                "trust-ad" => self.trust_ad = true,
                "no-reload" => self.no_reload = true,
                _ => {}
            }
        }
    }

    fn set_timeout(&mut self, seconds: u32) {
        self.timeout = u64::from(seconds.max(1)) * 1_000_000_000;
    }
}

/// The number at the beginning of a text, as atoi(3) reads it.
fn number(text: &str) -> u32 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if digits == 0 { 0 } else { text[..digits].parse().unwrap_or(u32::MAX) }
}

/// A server's address, maybe with the interface that it is behind.
fn server(word: &str, scope: &dyn Fn(&str) -> Option<u32>) -> Option<Server> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(Server::new(SocketAddr::new(address, PORT)));
    }
    let (address, interface) = word.split_once('%')?;
    let scope = interface.parse().ok().or_else(|| scope(interface)).unwrap_or(0);
    let address = address.parse().ok()?;
    Some(Server::new(SocketAddrV6::new(address, PORT, 0, scope).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        parse_in(text, &Surroundings::default())
    }

    fn parse_in(text: &str, around: &Surroundings) -> ResolvConf {
        ResolvConf::parse(text, around, &|name| (name == "eth0").then_some(7))
    }

    fn servers(conf: &ResolvConf) -> Vec<String> {
        conf.servers.iter().map(|server| server.udp.to_string()).collect()
    }

    #[test]
    fn nothing_means_the_defaults() {
        let conf = parse("");
        assert_eq!(servers(&conf), ["127.0.0.1:53"]);
        assert_eq!(ResolvConf { servers: Vec::new(), ..conf }, ResolvConf::default());
    }

    #[test]
    fn servers_are_three_at_most() {
        let conf = parse(
            "# nameserver 9.9.9.9\n; nameserver 9.9.9.9\nnameserver 10.0.0.1 # first\n\
             nameserver nonsense\n nameserver 10.9.9.9\nnameserver\t2001:db8::1\n\
             nameserver fe80::1%eth0\nnameserver 10.0.0.4\n",
        );
        assert_eq!(servers(&conf), ["10.0.0.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"]);
    }

    #[test]
    fn the_last_of_search_and_domain_counts() {
        assert_eq!(parse("domain a.example\nsearch b.example c\n").search, ["b.example", "c"]);
        assert_eq!(parse("search b c\ndomain a\nsearch\n").search, ["a"]);
        let around =
            Surroundings { host_name: "host.example.com".to_owned(), ..Default::default() };
        assert_eq!(parse_in("", &around).search, ["example.com"]);
        assert_eq!(parse_in("search a", &around).search, ["a"]);
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let around = Surroundings {
            local_domain: Some("x y".to_owned()),
            options: Some("ndots:3 rotate".to_owned()),
            ..Default::default()
        };
        let conf = parse_in("search a\noptions ndots:2 timeout:1\n", &around);
        assert_eq!(conf.search, ["x", "y"]);
        assert_eq!((conf.ndots, conf.timeout, conf.rotate), (3, 1_000_000_000, true));
    }

    #[test]
    fn options_have_limits() {
        let conf = parse("options ndots:99 timeout:99 attempts:99 use-vc edns0 unknown\n");
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (15, 30_000_000_000, 5));
        assert!(conf.tcp && conf.edns && !conf.rotate);
        let conf = parse("options ndots:0 timeout:0 attempts:0\noptions no-aaaa single-request\n");
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (0, 1_000_000_000, 1));
        assert!(conf.no_aaaa && conf.one_by_one);
    }
}
