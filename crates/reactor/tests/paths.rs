//! Hints of changes to a path.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::*;
use greenloop_reactor::{PathHint, Reactor};

struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("greenloop-paths-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_change_that_stat_shows_is_hinted_at() {
    let directory = Directory::new();
    let path = directory.0.join("deep").join("file");
    let hint = PathHint::new(&path).unwrap();
    each_backend(|reactor: &mut Reactor<&'static str>| {
        let key = reactor.watch(hint.raw_fd(), READ, "hint").unwrap();
        let mut expect = |what: &str| {
            let fired = poll_until_fired(reactor);
            assert_eq!(brief(reactor, &fired), ["watch hint r"], "{what}");
            hint.rearm();
            // Watching anew may tell what happened meanwhile, but no more than once.
            while !brief_now(reactor).is_empty() {
                hint.rearm();
            }
        };
        fs::create_dir(path.parent().unwrap()).unwrap();
        expect("the directory above is made");
        fs::write(&path, "").unwrap();
        expect("the file is made");
        fs::write(&path, "x").unwrap();
        expect("it is written");
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        expect("its mode is changed");
        let other = path.with_extension("new");
        fs::write(&other, "other").unwrap();
        fs::rename(&other, &path).unwrap();
        expect("another file takes its place");
        fs::write(&path, "more").unwrap();
        expect("and is written");
        fs::remove_file(&path).unwrap();
        expect("it is removed");
        fs::remove_dir(path.parent().unwrap()).unwrap();
        expect("and the directory is");
        assert_eq!(reactor.unwatch(key), Some("hint"));
    });
}
