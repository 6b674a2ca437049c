//! Taking out what some question is answered with yes for.

mod common;

use common::*;
use greenloop_reactor::Reactor;

type Names = Reactor<&'static str>;

#[test]
fn unwanted_timers_and_waits_go_and_all_else_stays() {
    each_backend(|reactor: &mut Names| {
        let (here, there) = sockets();
        let (reader, writer) = pipe();
        for name in ["keep", "drop", "drop too", "keep too"] {
            reactor.timer_add(0, name);
        }
        reactor.wait_fd(raw(&here), 1, READ, "keep").unwrap();
        reactor.wait_fd(raw(&here), 1, WRITE, "drop").unwrap();
        reactor.wait_fd(raw(&reader), 0, READ, "drop").unwrap();
        let watch = reactor.watch(raw(&reader), READ, "drop not").unwrap();
        put(&there);
        put(&writer);

        let mut out = Vec::new();
        reactor.remove_if(|name| ["drop", "drop too", "drop not"].contains(name), &mut out);
        out.sort_unstable();
        assert_eq!(out, ["drop", "drop", "drop", "drop too"]);
        assert_eq!((reactor.timer_count(), reactor.wait_count(), reactor.watch_count()), (2, 1, 1));

        let mut fired = brief_now(reactor);
        fired.sort_unstable();
        assert_eq!(fired, ["timer keep", "timer keep too", "wait keep r", "watch drop not r"]);
        reactor.unwatch(watch);
    });
}
