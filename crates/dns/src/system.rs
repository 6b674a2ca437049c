//! What is asked of the system: its name, its addresses, its random numbers.

use crate::order::{Route, counts_as_configured};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};
use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::ptr;

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A number that nobody can guess.
pub fn random() -> u16 {
    let mut bytes = [0; 2];
    // Asks the kernel each time: a generator's state would be the same in forked processes. So few
    // bytes come at once, or not at all on a system that has just started.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(2) => u16::from_ne_bytes(bytes),
        _ => {
            // A hasher is seeded by the system as well.
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(std::time::Instant::now()) as u16
        }
    }
}

/// The number of a network interface.
pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// One of this host's addresses.
#[derive(Clone, Copy, Debug)]
pub struct OwnAddress {
    address: IpAddr,
    network_bits: u32,
}

/// This host's addresses. None if the system does not say.
pub fn own_addresses() -> Option<Vec<OwnAddress>> {
    let mut first = ptr::null_mut();
    // SAFETY: a place for the list, which is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return None;
    }
    let mut own = Vec::new();
    let mut next = first;
    // SAFETY: items of the list, which lives until it is freed.
    while let Some(item) = unsafe { next.as_ref() } {
        // SAFETY: addresses of the list, or null.
        let (address, mask) = unsafe { (ip_address(item.ifa_addr), ip_address(item.ifa_netmask)) };
        if let Some(address) = address {
            let network_bits = match mask {
                Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
                Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
                None => 0,
            };
            own.push(OwnAddress { address, network_bits });
        }
        next = item.ifa_next;
    }
    // SAFETY: the list that was given.
    unsafe { libc::freeifaddrs(first) };
    Some(own)
}

/// # Safety
///
/// Null, or an address of the kind that it says.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller guarantees; the structures may lie at any address.
    unsafe {
        match i32::from(address.as_ref()?.sa_family) {
            libc::AF_INET => {
                let four = address.cast::<libc::sockaddr_in>().read_unaligned();
                Some(IpAddr::V4(u32::from_be(four.sin_addr.s_addr).into()))
            }
            libc::AF_INET6 => {
                let six = address.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(IpAddr::V6(six.sin6_addr.s6_addr.into()))
            }
            _ => None,
        }
    }
}

/// Whether this host has IPv4, and IPv6, addresses other than those of loopback.
pub fn configured(own: &[OwnAddress]) -> (bool, bool) {
    let counts = |four: bool| {
        own.iter().any(|own| own.address.is_ipv4() == four && counts_as_configured(own.address))
    };
    (counts(true), counts(false))
}

/// Which own addresses are not to be used any more (`IFA_F_DEPRECATED`), and which are home
/// addresses.
const DEPRECATED: u32 = 0x20;
const HOME: u32 = 0x10;

/// From where this host would talk to addresses.
pub struct Routes {
    own: Vec<OwnAddress>,
    /// Of IPv6 addresses.
    flags: Vec<(IpAddr, u32)>,
}

impl Routes {
    /// For the addresses that this host has now.
    pub fn new() -> Self {
        Self { own: own_addresses().unwrap_or_default(), flags: ipv6_flags() }
    }

    /// The own address towards another one: that which the kernel chooses. Nothing is sent.
    pub fn to(&self, address: IpAddr) -> Option<Route> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
        // No port is needed to choose, and the kernel takes 0.
        connect(&socket, &SocketAddr::new(address, 0)).ok()?;
        let source = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?.ip();
        let own = self.own.iter().find(|own| own.address == source);
        let flags =
            self.flags.iter().find(|(own, _)| *own == source).map_or(0, |(_, flags)| *flags);
        Some(Route {
            source,
            network_bits: own.map_or(0, |own| own.network_bits),
            deprecated: flags & DEPRECATED != 0,
            home: flags & HOME != 0,
        })
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

/// The flags of own IPv6 addresses, as the kernel lists them.
fn ipv6_flags() -> Vec<(IpAddr, u32)> {
    let text = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    text.lines().filter_map(ipv6_flags_of_line).collect()
}

fn ipv6_flags_of_line(line: &str) -> Option<(IpAddr, u32)> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let address = u128::from_str_radix(words.first()?, 16).ok()?;
    let flags = u32::from_str_radix(words.get(4)?, 16).ok()?;
    Some((IpAddr::V6(address.into()), flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<_> = (0..100).map(|_| random()).collect();
        assert!(numbers.len() > 50);
    }

    #[test]
    fn loopback_is_reached_from_itself() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(Routes::new().to(loopback).unwrap().source, loopback);
        assert!(own_addresses().unwrap().iter().any(|own| own.address == loopback));
    }

    #[test]
    fn lines_of_the_kernel() {
        let line = "fe800000000000000000000000000001 02 40 20 a0     eth0";
        assert_eq!(ipv6_flags_of_line(line), Some(("fe80::1".parse().unwrap(), 0xa0)));
        assert_eq!(ipv6_flags_of_line(""), None);
    }

    #[test]
    fn interfaces_have_numbers() {
        assert!(interface_index("lo").is_some());
        assert_eq!(interface_index("no such interface"), None);
    }
}
