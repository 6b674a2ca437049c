//! Heads of requests: what is taken, and what is refused with which status.

mod common;

use common::{accepted, read, read_in_pieces, refusal};
use greenloop_http1::{BodyLength, Form, Head, HeadScanner, Limits, Refusal, Target, Version};

/// Looks at the head of a request that is fine.
#[track_caller]
fn with_head<R>(bytes: &[u8], look: impl FnOnce(Head<'_>) -> R) -> R {
    let limits = Limits::default();
    let span = HeadScanner::new().find_end(bytes, &limits).expect("fine").expect("complete");
    look(Head::parse(bytes, span, &limits).expect("fine"))
}

#[test]
fn a_plain_request() {
    let bytes = b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org:80\r\nX-Y:  z \t\r\nX-Y:\r\n\r\n";
    with_head(bytes, |head| {
        assert_eq!(head.method, "GET");
        assert_eq!(head.target.form, Form::Origin);
        assert_eq!((head.target.path, head.target.query), ("/a/b", Some("c=d")));
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.host, Some(&b"example.org:80"[..]));
        assert_eq!(head.values("x-y").collect::<Vec<_>>(), [&b"z"[..], b""]);
        assert_eq!((head.body, head.has_length), (BodyLength::Fixed(0), false));
        assert!(head.keep_alive && !head.expects_continue && head.upgrade.is_none());
    });
}

#[test]
fn empty_lines_before_a_request() {
    assert_eq!(accepted(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").method, "GET");
    assert_eq!(refusal(b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Refusal::NotHttp);
    assert_eq!(refusal(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Refusal::BareLineFeed);
    let mut scanner = HeadScanner::new();
    assert_eq!(scanner.find_end(b"\r\n", &Limits::default()), Ok(None));
    assert!(!scanner.has_begun());
    assert_eq!(scanner.find_end(b"\r\nG", &Limits::default()), Ok(None));
    assert!(scanner.has_begun());
}

#[test]
fn request_lines() {
    for (line, expected) in [
        ("GET  / HTTP/1.1", Refusal::NotHttp),
        ("GET / HTTP/1.1 ", Refusal::NotHttp),
        (" GET / HTTP/1.1", Refusal::NotHttp),
        ("GET /", Refusal::NotHttp),
        ("GET", Refusal::NotHttp),
        ("GET / http/1.1", Refusal::NotHttp),
        ("GET / HTTP/1", Refusal::NotHttp),
        ("GET / HTTP/11", Refusal::NotHttp),
        ("GET / HTTP/1.1.1", Refusal::NotHttp),
        ("GET / HTTPS/1.1", Refusal::NotHttp),
        ("GET\t/\tHTTP/1.1", Refusal::NotHttp),
        ("GET /a b HTTP/1.1", Refusal::NotHttp),
        ("GET / HTTP/1.2", Refusal::Version),
        ("GET / HTTP/0.9", Refusal::Version),
        ("GET / HTTP/2.0", Refusal::Version),
        ("PRI * HTTP/2.0", Refusal::Version),
        ("G(T / HTTP/1.1", Refusal::Method),
        ("GÉT / HTTP/1.1", Refusal::Method),
        ("GET /\u{7f} HTTP/1.1", Refusal::Target),
        ("GET /\u{1} HTTP/1.1", Refusal::Target),
        ("GET /\0 HTTP/1.1", Refusal::Target),
        ("GET /a\rb HTTP/1.1", Refusal::BareCarriageReturn),
        ("GET /#fragment HTTP/1.1", Refusal::Target),
        ("GET path HTTP/1.1", Refusal::Target),
        ("GET //user@h@/ HTTP/1.1", Refusal::HostMissing),
        ("GET ftp://h/ HTTP/1.1", Refusal::Target),
        ("GET http:/h/ HTTP/1.1", Refusal::Target),
        ("GET http:///a HTTP/1.1", Refusal::Target),
        ("GET http://user@h/ HTTP/1.1", Refusal::Target),
        ("GET http://h:x/ HTTP/1.1", Refusal::Target),
        ("GET * HTTP/1.1", Refusal::TargetForm),
        ("CONNECT / HTTP/1.1", Refusal::TargetForm),
        ("CONNECT h HTTP/1.1", Refusal::TargetForm),
        ("CONNECT http://h:80/ HTTP/1.1", Refusal::TargetForm),
        ("\u{16}\u{3}\u{1}", Refusal::NotHttp),
        ("(GET / HTTP/1.1", Refusal::NotHttp),
    ] {
        assert_eq!(refusal(format!("{line}\r\n\r\n").as_bytes()), expected, "{line:?}");
    }
    let invalid_text = b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(refusal(invalid_text), Refusal::Target);
}

#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    let limits = Limits::default();
    for start in [&b"\x16"[..], b"\x00", b"\x80", b" ", b"\r\n\x16"] {
        assert_eq!(HeadScanner::new().find_end(start, &limits), Err(Refusal::NotHttp));
    }
}

#[test]
fn targets() {
    let parse = |method, raw| Target::parse(method, raw).expect("fine");
    let target = parse("GET", "HTTP://example.org:80?x=/y");
    assert_eq!(target.form, Form::Absolute);
    assert_eq!(target.scheme, Some("HTTP"));
    assert_eq!(target.authority, Some("example.org:80"));
    assert_eq!((target.path, target.query), ("/", Some("x=/y")));
    let target = parse("GET", "https://[::1]/a?b?c");
    assert_eq!((target.authority, target.path, target.query), (Some("[::1]"), "/a", Some("b?c")));
    let target = parse("OPTIONS", "*");
    assert_eq!((target.form, target.path), (Form::Asterisk, ""));
    let target = parse("CONNECT", "example.org:443");
    assert_eq!((target.form, target.authority), (Form::Authority, Some("example.org:443")));
    let target = parse("GET", "/%41/é?");
    assert_eq!((target.path, target.query), ("/%41/é", Some("")));
    // Two slashes are a path, and not a host.
    assert_eq!(parse("GET", "//h/a").path, "//h/a");
}

#[test]
fn the_host_of_the_target_counts() {
    let bytes = b"GET http://real/ HTTP/1.1\r\nHost: other\r\n\r\n";
    with_head(bytes, |head| assert_eq!(head.host, Some(&b"real"[..])));
}

#[test]
fn hosts() {
    let request = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n");
    for (headers, expected) in [
        ("", Refusal::HostMissing),
        ("Host: a\r\nHost: a\r\n", Refusal::HostRepeated),
        ("Host: a\r\nhost: b\r\n", Refusal::HostRepeated),
        ("Host: a b\r\n", Refusal::HostInvalid),
        ("Host: a/b\r\n", Refusal::HostInvalid),
        ("Host: user@a\r\n", Refusal::HostInvalid),
        ("Host: a:80:80\r\n", Refusal::HostInvalid),
        ("Host: a:-1\r\n", Refusal::HostInvalid),
        ("Host: http://a\r\n", Refusal::HostInvalid),
        ("Host: a?b\r\n", Refusal::HostInvalid),
        ("Host: [::1\r\n", Refusal::HostInvalid),
    ] {
        assert_eq!(refusal(request(headers).as_bytes()), expected, "{headers:?}");
    }
    for headers in ["Host:\r\n", "Host: a\r\n", "Host: a:8000\r\n", "Host: [::1]:80\r\n"] {
        accepted(request(headers).as_bytes());
    }
    accepted(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(refusal(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Refusal::HostRepeated);
}

#[test]
fn headers() {
    for (header, expected) in [
        ("A B: c", Refusal::HeaderName),
        ("A : b", Refusal::SpaceBeforeColon),
        ("A\t: b", Refusal::SpaceBeforeColon),
        (": b", Refusal::HeaderName),
        (" : b", Refusal::FoldedHeader),
        ("A", Refusal::HeaderName),
        ("A(: b", Refusal::HeaderName),
        ("Ä: b", Refusal::HeaderName),
        ("A\0: b", Refusal::HeaderName),
        ("A: b\0", Refusal::HeaderValue),
        ("A: b\u{1}", Refusal::HeaderValue),
        ("A: b\u{7f}", Refusal::HeaderValue),
        ("A: b\rc", Refusal::BareCarriageReturn),
        ("A: b\r", Refusal::BareCarriageReturn),
        ("A: b\r\n c", Refusal::FoldedHeader),
        ("A: b\r\n\tc", Refusal::FoldedHeader),
        (" A: b", Refusal::FoldedHeader),
        ("A: b\nC: d", Refusal::BareLineFeed),
        ("A: b\n\r\nC: d", Refusal::BareLineFeed),
    ] {
        // As the first header, and as the last.
        let first = format!("GET / HTTP/1.1\r\n{header}\r\nHost: a\r\n\r\n");
        assert_eq!(refusal(first.as_bytes()), expected, "{header:?}");
        let last = format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n");
        assert_eq!(refusal(last.as_bytes()), expected, "{header:?}");
    }
    let seen =
        accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\t\xff\r\n!#$%&'*+-.^_`|~: 1\r\n\r\n");
    assert_eq!(seen.headers[1], ("X".to_owned(), b"\xe9\t\xff".to_vec()));
}

#[test]
fn lengths_of_bodies() {
    let request = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    for (headers, expected) in [
        ("Content-Length: -1\r\n", Refusal::ContentLength),
        ("Content-Length: +1\r\n", Refusal::ContentLength),
        ("Content-Length: 0x1\r\n", Refusal::ContentLength),
        ("Content-Length: 1_0\r\n", Refusal::ContentLength),
        ("Content-Length: 1 0\r\n", Refusal::ContentLength),
        ("Content-Length: 1.0\r\n", Refusal::ContentLength),
        ("Content-Length:\r\n", Refusal::ContentLength),
        ("Content-Length: 1, 1\r\n", Refusal::ContentLength),
        ("Content-Length: \u{b2}\r\n", Refusal::ContentLength),
        ("Content-Length: 99999999999999999999\r\n", Refusal::BodyTooLarge),
        ("Content-Length: 1\r\nContent-Length: 1\r\n", Refusal::ContentLengthRepeated),
        ("Content-Length: 1\r\ncontent-length: 2\r\n", Refusal::ContentLengthRepeated),
        ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Refusal::TwoLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Refusal::TwoLengths),
        ("Transfer-Encoding: identity\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding:\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: xchunked\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: \u{b}chunked\r\n", Refusal::HeaderValue),
        ("Transfer-Encoding: chunked, identity\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: , chunked\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: gzip\r\n", Refusal::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Refusal::TransferEncodingUnknown),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refusal::TransferEncoding),
    ] {
        assert_eq!(refusal(request(headers).as_bytes()), expected, "{headers:?}");
    }
    assert_eq!(
        refusal(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Refusal::TransferEncodingTooOld
    );
    assert_eq!(
        accepted(request("Content-Length: 000\r\n").as_bytes()).length,
        BodyLength::Fixed(0)
    );
    let seen = accepted((request("TRANSFER-encoding: Chunked\r\n") + "0\r\n\r\n").as_bytes());
    assert_eq!(seen.length, BodyLength::Chunked);
    assert_eq!(accepted((request("Content-Length: 3\r\n") + "abc").as_bytes()).body, b"abc");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_comes() {
    let limits = Limits { body: 3, ..Limits::default() };
    let fixed = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(read_in_pieces(fixed, &[], &limits).1, Some(Refusal::BodyTooLarge));
    let chunks =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\n";
    assert_eq!(read_in_pieces(chunks, &[], &limits).1, Some(Refusal::BodyTooLarge));
    let fits = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(read_in_pieces(fits, &[], &limits).1, None);
}

#[test]
fn connections_that_go_on() {
    let keeps = |request: &str| accepted(request.as_bytes()).keep_alive;
    assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x,\tClose ,y\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nconnection: close\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

#[test]
fn expectations_and_upgrades() {
    let expects = |bytes: &[u8]| with_head(bytes, |head| head.expects_continue);
    assert!(expects(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n"
    ));
    // Nothing would follow.
    assert!(!expects(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!expects(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
    let other = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(refusal(other), Refusal::Expectation);

    let upgrade = |bytes: &[u8]| with_head(bytes, |head| head.upgrade.map(<[u8]>::to_vec));
    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n";
    assert_eq!(upgrade(asked), Some(b"websocket".to_vec()));
    assert_eq!(upgrade(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), None);
    assert_eq!(upgrade(b"GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), None);
}

#[test]
fn limits_of_heads() {
    let limits = Limits { request_line: 20, header: 10, head: 53, headers: 3, ..Limits::default() };
    let refusal = |bytes: &[u8]| read_in_pieces(bytes, &[1], &limits).1;
    // Each is refused as soon as it is over the limit, and taken when it is just at it.
    assert_eq!(refusal(b"GET /234567 HTTP/1.1\r\nHost:"), None);
    assert_eq!(refusal(b"GET /2345678 HTTP/1.1"), Some(Refusal::RequestLineTooLong));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: 7890\r\n"), None);
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: 78901"), Some(Refusal::HeaderTooLong));
    let three = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n";
    assert_eq!(refusal(three), None);
    let four = [&three[..], b"A: b\r\n"].concat();
    assert_eq!(refusal(&four), Some(Refusal::TooManyHeaders));
    let large = b"GET / HTTP/1.1\r\nHost: 7890\r\nA: 4567890\r\nA: 4567890\r\nA:";
    assert_eq!(refusal(large), Some(Refusal::HeadTooLarge));
    // The same in one piece.
    assert_eq!(read_in_pieces(&four, &[], &limits).1, Some(Refusal::TooManyHeaders));
    // More headers than fit without memory of the heap.
    let mut many = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for index in 0..99 {
        many.extend_from_slice(format!("X-{index}: {index}\r\n").as_bytes());
    }
    many.extend_from_slice(b"\r\n");
    assert_eq!(accepted(&many).headers.len(), 100);
}

#[test]
fn requests_in_a_row() {
    let one = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab";
    let two =
        b"\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n";
    let three = b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    let (seen, refusal) = read(&[&one[..], two, three].concat());
    assert_eq!(refusal, None);
    let bodies: Vec<_> = seen.iter().map(|seen| (&seen.target[..], &seen.body[..])).collect();
    assert_eq!(bodies, [("/1", &b"ab"[..]), ("/2", b"c"), ("/3", b"")]);
}

#[test]
fn every_refusal_has_a_status_and_a_text() {
    for refusal in Refusal::ALL {
        assert!((400..600).contains(&refusal.status()));
        assert!(!refusal.to_string().is_empty());
    }
}
