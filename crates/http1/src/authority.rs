//! Hosts and ports, as RFC 3986 (section 3.2) writes them.

/// Whether this is `host` or `host:port`, the host not empty.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let (literal, after) = (&rest[..end], &rest[end + 1..]);
            return is_ip_literal(literal) && (after.is_empty() || is_port(after));
        }
        None => match text.iter().position(|&byte| byte == b':') {
            Some(colon) => text.split_at(colon),
            None => (text, &b""[..]),
        },
    };
    !host.is_empty() && is_registered_name(host) && (port.is_empty() || is_port(port))
}

/// Whether a port is written out, as CONNECT needs it.
pub fn has_port(authority: &[u8]) -> bool {
    let colon = authority.iter().rposition(|&byte| byte == b':');
    colon.is_some_and(|colon| {
        let port = &authority[colon + 1..];
        !port.is_empty() && port.iter().all(u8::is_ascii_digit)
    })
}

/// A colon and digits, which may be missing.
fn is_port(text: &[u8]) -> bool {
    match text.split_first() {
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn is_ip_literal(text: &[u8]) -> bool {
    if let Some((b'v' | b'V', rest)) = text.split_first() {
        let Some(dot) = rest.iter().position(|&byte| byte == b'.') else {
            return false;
        };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| is_name_byte(byte) || byte == b':');
    }
    str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_registered_name(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => {
                let mut is_hex = || bytes.next().is_some_and(u8::is_ascii_hexdigit);
                is_hex() && is_hex()
            }
            _ => is_name_byte(byte),
        };
        if !is_fine {
            return false;
        }
    }
    true
}

/// The characters that are "unreserved", and the "sub-delims".
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for fine in [
            "a",
            "a.b",
            "a:80",
            "a:",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:8080",
            "[v1.a:b]",
            "a_b",
            "a%41",
        ] {
            assert!(is_authority(fine.as_bytes()), "{fine}");
        }
        for wrong in [
            "", ":80", "a b", "a:b", "a:80:80", "user@a", "[::1", "[::1]x", "[::g]", "[]", "a/b",
            "a?b", "a#b", "a%4", "a%zz", "[v1]", "[v.a]", "a\\b", "a:123456", "ä", "a\0",
            "[::1]:x",
        ] {
            assert!(!is_authority(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn ports_written_out() {
        assert!(has_port(b"a:80") && has_port(b"[::1]:80"));
        assert!(!has_port(b"a") && !has_port(b"a:") && !has_port(b"[::1]"));
    }
}
