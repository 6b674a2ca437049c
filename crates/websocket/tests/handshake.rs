//! Requests that ask for a WebSocket.

use greenloop_websocket::{Handshake, Refused, accept_key};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const COMPLETE: &[(&str, &str)] = &[
    ("Host", "example.org"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
];

fn read(method: &str, headers: &[(&str, &str)]) -> Result<Option<Handshake>, Refused> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Handshake::read(method.as_bytes(), headers)
}

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    COMPLETE.iter().copied().filter(|(other, _)| *other != name).collect()
}

fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [COMPLETE, more].concat()
}

/// Complete, but with another value for one header.
fn changed(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    [without(name), vec![(name, value)]].concat()
}

#[test]
fn the_key_that_the_rfc_shows() {
    assert_eq!(accept_key(KEY.as_bytes()).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn keys_that_are_none() {
    for key in
        ["", "abc", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZWVl"]
    {
        assert_eq!(accept_key(key.as_bytes()), None, "{key}");
    }
    assert_eq!(accept_key(&[b'A'; 100]), None);
}

#[test]
fn what_a_client_asks_for() {
    let found = read("GET", COMPLETE).unwrap().unwrap();
    assert_eq!(found.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(found.protocols.is_empty() && found.extensions.is_empty());

    let found = read(
        "GET",
        &with(&[
            ("sec-websocket-protocol", "chat, superchat"),
            ("SEC-WEBSOCKET-EXTENSIONS", "permessage-deflate"),
            ("Sec-WebSocket-Protocol", "v2"),
            ("Sec-WebSocket-Extensions", "other; x=1"),
        ]),
    )
    .unwrap()
    .unwrap();
    assert_eq!(found.protocols, ["chat", "superchat", "v2"]);
    assert_eq!(found.extensions, "permessage-deflate,other; x=1");

    let listed = changed("Connection", "keep-alive , UPGRADE");
    assert!(read("GET", &listed).unwrap().is_some());
    let listed = changed("Upgrade", "h2c, WebSocket");
    assert!(read("GET", &listed).unwrap().is_some());
}

#[test]
fn requests_that_do_not_ask() {
    for name in ["Upgrade", "Connection"] {
        assert_eq!(read("GET", &without(name)), Ok(None));
    }
    for (name, value) in [("Upgrade", "h2c"), ("Upgrade", "websockets"), ("Connection", "close")] {
        assert_eq!(read("POST", &changed(name, value)), Ok(None));
    }
}

#[test]
fn requests_that_ask_wrongly() {
    let status = |method: &str, headers: &[(&str, &str)]| read(method, headers).unwrap_err().status;
    assert_eq!(status("POST", COMPLETE), 400);
    assert_eq!(status("GET", &without("Sec-WebSocket-Key")), 400);
    assert_eq!(status("GET", &changed("Sec-WebSocket-Key", "short")), 400);
    assert_eq!(status("GET", &with(&[("Sec-WebSocket-Key", KEY)])), 400);
    assert_eq!(status("GET", &without("Sec-WebSocket-Version")), 426);
    assert_eq!(status("GET", &changed("Sec-WebSocket-Version", "8")), 426);
    assert_eq!(status("GET", &with(&[("Sec-WebSocket-Version", "13")])), 400);
    assert_eq!(status("GET", &with(&[("Sec-WebSocket-Protocol", "a b")])), 400);
    assert_eq!(status("GET", &with(&[("Sec-WebSocket-Protocol", "a, a")])), 400);
    assert_eq!(status("GET", &with(&[("Sec-WebSocket-Protocol", "é")])), 400);
}
