//! Domain names: from and to the texts that programs know.

pub use hickory_proto::rr::Name;

/// The name that a text means, whether or not it ends in a dot. None if it has an empty label, or
/// one of more than 63 bytes, or more than 255 bytes altogether.
pub fn parse(text: &[u8]) -> Option<Name> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() {
        return Some(Name::root());
    }
    let mut labels = text.split(|byte| *byte == b'.');
    // Checked here: an error of the library is a text that it takes time to make.
    if labels.clone().any(|label| label.is_empty() || label.len() > 63) || text.len() > 253 {
        return None;
    }
    labels
        .try_fold(Name::new(), |name, label| name.append_label(label))
        .map(|mut name| {
            name.set_fqdn(true);
            name
        })
        .ok()
}

/// The text of a name, without a dot at its end. What is not printed is written as the C library
/// does.
pub fn text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for (index, label) in name.iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        for byte in label {
            match byte {
                b'"' | b'.' | b';' | b'\\' | b'(' | b')' | b'@' | b'$' => {
                    text.push('\\');
                    text.push(char::from(*byte));
                }
                b'!'..=b'~' => text.push(char::from(*byte)),
                other => text.push_str(&format!("\\{other:03}")),
            }
        }
    }
    text
}

/// Whether a name that a server sends may be given to programs as that of a host: letters, digits,
/// underscores, and hyphens except at the beginning of the name. Programs have put names of hosts
/// into shell commands.
pub fn is_of_host(name: &Name) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    name.iter().next().is_none_or(|label| !label.starts_with(b"-"))
        && name.iter().all(|label| label.iter().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_names_with_or_without_the_dot() {
        assert_eq!(parse(b"www.example.com"), parse(b"WWW.example.com."));
        assert_eq!(text(&parse(b"www.Example.com.").unwrap()), "www.Example.com");
        assert_eq!(parse(b""), Some(Name::root()));
        assert_eq!(parse(b"."), Some(Name::root()));
        assert_eq!(text(&Name::root()), "");
    }

    #[test]
    fn what_is_too_long_or_empty_is_no_name() {
        let label = [b'a'; 64];
        assert_eq!(parse(&label), None);
        assert!(parse(&label[1..]).is_some());
        assert_eq!(parse(b"a..b"), None);
        assert_eq!(parse(b".a"), None);
        let full = [&label[1..], &label[1..], &label[1..], &label[3..]].join(&b'.');
        assert_eq!(full.len(), 253);
        assert!(parse(&full).is_some());
        assert_eq!(parse(&[&full[..], b"a"].concat()), None);
    }

    #[test]
    fn odd_bytes_are_escaped() {
        let name = Name::from_labels([&b"a b.c"[..], b"\xff$"]).unwrap();
        assert_eq!(text(&name), "a\\032b\\.c.\\255\\$");
        assert!(!is_of_host(&name));
    }

    #[test]
    fn names_of_hosts() {
        for good in ["a", "_sip._tcp.example", "a-b.c", "1.2", "a.-b"] {
            assert!(is_of_host(&parse(good.as_bytes()).unwrap()), "{good}");
        }
        for bad in ["-a", "a b", "a;b", "a`b.c"] {
            assert!(!is_of_host(&parse(bad.as_bytes()).unwrap()), "{bad}");
        }
    }
}
