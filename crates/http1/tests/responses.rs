//! Heads of responses, and how bodies are delivered.

use greenloop_http1::{
    BadResponse, Delivery, Refusal, Request, ResponseHead, Version, chunk_size, write_refusal,
    write_trailer,
};

const GET: Request = Request { version: Version::Http11, is_head: false, keep_alive: true };
const HEAD: Request = Request { is_head: true, ..GET };
const CLOSING: Request = Request { keep_alive: false, ..GET };
const OLD: Request = Request { version: Version::Http10, keep_alive: false, ..GET };
const OLD_KEPT: Request = Request { version: Version::Http10, ..GET };

/// A request, a status, headers and the length of a body; the framing that is written, how the body
/// is delivered, and whether the connection goes on.
type Case = (Request, &'static str, Headers<'static>, Option<u64>, &'static str, Delivery, bool);

type Headers<'a> = &'a [(&'a str, &'a str)];

fn respond(
    request: Request,
    status: &str,
    headers: Headers<'_>,
    length: Option<u64>,
) -> (String, Delivery, bool) {
    let mut head = ResponseHead::new(Vec::new(), request, status.as_bytes()).expect("a status");
    for (name, value) in headers {
        head.header(name.as_bytes(), value.as_bytes()).expect("a header");
    }
    let (out, delivery, goes_on) = head.finish(length, Some(b"now"), Some(b"greenloop"));
    (String::from_utf8(out).expect("text"), delivery, goes_on)
}

#[test]
fn how_bodies_are_delivered() {
    let rest = "Date: now\r\nServer: greenloop\r\n";
    let cases: &[Case] = &[
        (GET, "200 OK", &[], None, "Transfer-Encoding: chunked\r\n", Delivery::Chunked, true),
        (GET, "200 OK", &[], Some(5), "Content-Length: 5\r\n", Delivery::Length(5), true),
        (GET, "200 OK", &[], Some(0), "Content-Length: 0\r\n", Delivery::Length(0), true),
        (HEAD, "200 OK", &[], Some(5), "Content-Length: 5\r\n", Delivery::NoBody, true),
        (HEAD, "200 OK", &[], Some(0), "", Delivery::NoBody, true),
        (HEAD, "200 OK", &[], None, "", Delivery::NoBody, true),
        (GET, "304 Not Modified", &[], Some(5), "", Delivery::NoBody, true),
        (GET, "204 No Content", &[("Content-Length", "0")], Some(0), "", Delivery::NoBody, true),
        (
            CLOSING,
            "200 OK",
            &[],
            Some(1),
            "Content-Length: 1\r\nConnection: close\r\n",
            Delivery::Length(1),
            false,
        ),
        (OLD, "200 OK", &[], None, "Connection: close\r\n", Delivery::UntilClose, false),
        (OLD_KEPT, "200 OK", &[], None, "Connection: close\r\n", Delivery::UntilClose, false),
        (
            OLD_KEPT,
            "200 OK",
            &[],
            Some(1),
            "Content-Length: 1\r\nConnection: keep-alive\r\n",
            Delivery::Length(1),
            true,
        ),
    ];
    for &(request, status, headers, length, framing, delivery, goes_on) in cases {
        let expected = format!("HTTP/1.1 {status}\r\n{rest}{framing}\r\n");
        let outcome = respond(request, status, headers, length);
        assert_eq!(outcome, (expected, delivery, goes_on), "{request:?} {status} {length:?}");
    }
}

#[test]
fn headers_of_the_application_count() {
    let headers: Headers<'_> = &[
        ("content-length", "7"),
        ("DATE", "then"),
        ("Server", "mine"),
        ("Connection", "Close"),
        ("X", " a\t"),
    ];
    let (text, delivery, goes_on) = respond(GET, "200 OK", headers, Some(5));
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nDATE: then\r\nServer: mine\r\nConnection: Close\r\n\
         X: a\r\n\r\n"
    );
    assert_eq!((delivery, goes_on), (Delivery::Length(7), false));
    // Delimiting the body is the server's.
    let (text, delivery, _) = respond(OLD, "200 OK", &[("Transfer-Encoding", "chunked")], None);
    assert!(!text.contains("chunked"));
    assert_eq!(delivery, Delivery::UntilClose);
    // The length of what HEAD would get is the application's to know.
    let (text, ..) = respond(HEAD, "200 OK", &[("Content-Length", "9")], Some(0));
    assert!(text.contains("Content-Length: 9\r\n"));
}

#[test]
fn interim_responses_and_upgrades() {
    let (text, delivery, goes_on) = respond(CLOSING, "103 Early Hints", &[("Link", "<a>")], None);
    assert_eq!(text, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
    assert_eq!(delivery, Delivery::NoBody);
    assert!(!goes_on);
    let headers: Headers<'_> = &[("Upgrade", "websocket"), ("Connection", "Upgrade")];
    let (text, delivery, goes_on) = respond(GET, "101 Switching Protocols", headers, None);
    assert!(text.ends_with("Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"));
    assert_eq!((delivery, goes_on), (Delivery::Upgraded, true));
}

#[test]
fn statuses() {
    let status =
        |text: &str| ResponseHead::new(Vec::new(), GET, text.as_bytes()).map(|head| head.status());
    assert_eq!(status("200 OK"), Ok(200));
    assert_eq!(status("299 "), Ok(299));
    assert_eq!(status("404 N\u{e9}"), Ok(404));
    for wrong in
        ["", "20", "099 X", "2000 OK", "20x OK", "200OK", "200 a\r\nb", "200 a\0", " 200 OK"]
    {
        assert_eq!(status(wrong), Err(BadResponse::Status), "{wrong:?}");
    }
    assert!(respond(GET, "200", &[], Some(0)).0.starts_with("HTTP/1.1 200 \r\n"));
}

#[test]
fn headers_that_cannot_be_sent() {
    let mut head = ResponseHead::new(b"before".to_vec(), GET, b"200 OK").expect("a status");
    for (name, value, expected) in [
        (&b""[..], &b"a"[..], BadResponse::HeaderName),
        (b"A B", b"a", BadResponse::HeaderName),
        (b"A:", b"a", BadResponse::HeaderName),
        (b"A\r\n", b"a", BadResponse::HeaderName),
        (b"\xe9", b"a", BadResponse::HeaderName),
        (b"A", b"a\r\nB: c", BadResponse::HeaderValue),
        (b"A", b"a\n", BadResponse::HeaderValue),
        (b"A", b"\0", BadResponse::HeaderValue),
        (b"A", b"\x7f", BadResponse::HeaderValue),
        (b"Content-Length", b"x", BadResponse::ContentLength),
        (b"Content-Length", b"-1", BadResponse::ContentLength),
    ] {
        assert_eq!(head.header(name, value), Err(expected));
    }
    assert_eq!(head.header(b"Content-Length", b"1"), Ok(()));
    assert_eq!(head.header(b"Content-Length", b"1"), Err(BadResponse::ContentLength));
    assert_eq!(head.header(b"A", b"\xe9\t"), Ok(()));
    assert_eq!((head.status(), head.content_length()), (200, Some(1)));
    let (out, ..) = head.finish(None, None, None);
    assert_eq!(out, b"beforeHTTP/1.1 200 OK\r\nContent-Length: 1\r\nA: \xe9\r\n\r\n");
}

#[test]
fn headers_that_are_reserved() {
    let mut head = ResponseHead::new(Vec::new(), GET, b"101 Switching Protocols").expect("status");
    assert_eq!(head.header(b"Upgrade", b"websocket"), Ok(()));
    head.reserve(&[b"upgrade"]);
    for name in [&b"upgrade"[..], b"UPGRADE"] {
        assert_eq!(head.header(name, b"other"), Err(BadResponse::Reserved));
    }
    assert_eq!(head.header(b"A", b"b"), Ok(()));
    let (out, ..) = head.finish(None, None, None);
    assert_eq!(out, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nA: b\r\n\r\n");
}

#[test]
fn trailers() {
    let mut out = Vec::new();
    assert_eq!(write_trailer(&mut out, b"X-Sum", b" 1 "), Ok(()));
    for (name, value, expected) in [
        (&b"Content-Length"[..], &b"1"[..], BadResponse::Trailer),
        (b"transfer-encoding", b"chunked", BadResponse::Trailer),
        (b"A B", b"a", BadResponse::HeaderName),
        (b"A", b"a\r\nB: c", BadResponse::HeaderValue),
    ] {
        assert_eq!(write_trailer(&mut out, name, value), Err(expected));
    }
    assert_eq!(out, b"X-Sum: 1\r\n");
}

#[test]
fn sizes_of_chunks() {
    for (size, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcde, "abcde\r\n")] {
        let mut out = Vec::new();
        chunk_size(&mut out, size);
        assert_eq!(out, text.as_bytes());
    }
}

#[test]
#[should_panic(expected = "a chunk of no data ends the body")]
fn no_chunk_is_empty() {
    chunk_size(&mut Vec::new(), 0);
}

#[test]
fn refusals_are_whole_responses() {
    for &refusal in Refusal::ALL {
        let mut out = Vec::new();
        write_refusal(&mut out, refusal, b"now");
        let mut slots = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut slots);
        let status = response.parse(&out).expect("well-formed");
        assert_eq!(response.code, Some(refusal.status()));
        assert_ne!(response.reason, Some(""));
        let body = &out[status.unwrap()..];
        let length = response.headers.iter().find(|header| header.name == "Content-Length");
        assert_eq!(length.map(|header| header.value), Some(body.len().to_string().as_bytes()));
    }
}
