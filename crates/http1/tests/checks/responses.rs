//! Whatever an application gives: the client sees the headers that were taken, and no others. Lines
//! of the input are the status, and then names and values by turns.

use greenloop_http1::{Request, ResponseHead, Version};

pub fn check(data: &[u8]) {
    let Some((&bits, rest)) = data.split_first() else { return };
    let request = Request {
        version: if bits & 1 == 0 { Version::Http11 } else { Version::Http10 },
        is_head: bits & 2 != 0,
        keep_alive: bits & 4 != 0,
    };
    // A byte that is refused in a header, so that those that matter can be in it.
    let mut parts = rest.split(|&byte| byte == 0x7f);
    let Some(status) = parts.next() else { return };
    let Ok(mut head) = ResponseHead::new(Vec::new(), request, status) else { return };
    let mut taken = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if taken.len() < 50 && head.header(name, value).is_ok() {
            taken.push((name, value.trim_ascii()));
        }
    }
    let length = (bits & 8 != 0).then_some(u64::from(bits));
    let (out, ..) = head.finish(length, Some(b"now"), Some(b"greenloop"));
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut slots);
    let parsed = response.parse(&out).expect("well-formed");
    assert_eq!(parsed, httparse::Status::Complete(out.len()));
    let given = |name: &[u8]| taken.iter().any(|(other, _)| *other == name);
    for header in response.headers.iter() {
        let is_ours = ["Date", "Server", "Connection", "Content-Length", "Transfer-Encoding"]
            .contains(&header.name);
        assert!(is_ours || given(header.name.as_bytes()));
    }
}
