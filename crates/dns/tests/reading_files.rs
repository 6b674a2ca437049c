//! The files are read when they have changed.

use greenloop_dns::files::{Files, read_hosts};
use greenloop_dns::lookup::Wanted;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenloop-dns-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Writes a file and puts it in its place, as editors and tools do.
    fn write(&self, name: &str, text: &str) {
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.join(name)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn servers(files: &Files) -> Vec<String> {
    let conf = files.configuration().conf;
    conf.servers.iter().map(|server| server.udp.ip().to_string()).collect()
}

fn is_host(files: &Files, name: &str) -> bool {
    let hosts = files.configuration().hosts;
    hosts.is_some_and(|hosts| hosts.by_name(name, Wanted::V4).is_some())
}

#[test]
fn missing_files_mean_the_defaults() {
    let directory = Directory::new();
    let mut files = Files::new(&directory.0, |_| {});
    assert!(files.refresh());
    assert_eq!(servers(&files), ["127.0.0.1"]);
    assert_eq!(files.configuration().services.len(), 2);
    assert!(files.configuration().hosts.is_none());
    assert!(!files.refresh());
}

#[test]
fn changes_are_noticed() {
    let directory = Directory::new();
    directory.write("resolv.conf", "nameserver 10.0.0.1\n");
    directory.write("hosts", "10.1.1.1 one\n");
    let mut files = Files::new(&directory.0, |_| {});
    assert!(files.refresh());
    assert_eq!(servers(&files), ["10.0.0.1"]);
    assert!(is_host(&files, "one"));
    // Others to ask may say other things; other hosts do not change what they say.
    directory.write("hosts", "10.1.1.1 two\n");
    directory.write("nsswitch.conf", "hosts: dns\n");
    assert!(!files.refresh());
    assert!(is_host(&files, "two") && !is_host(&files, "one"));
    assert_eq!(files.configuration().services.len(), 1);
    directory.write("resolv.conf", "nameserver 10.0.0.2\n");
    assert!(files.refresh());
    assert_eq!(servers(&files), ["10.0.0.2"]);
    fs::remove_file(directory.0.join("resolv.conf")).unwrap();
    fs::remove_file(directory.0.join("hosts")).unwrap();
    assert!(files.refresh());
    assert_eq!(servers(&files), ["127.0.0.1"]);
    assert!(files.configuration().hosts.is_none());
}

#[test]
fn host_conf_and_gai_conf() {
    let directory = Directory::new();
    directory.write("hosts", "10.1.1.1 one\n10.1.1.2 one\n");
    let mut files = Files::new(&directory.0, |_| {});
    let count = |files: &Files| {
        let found = files.configuration().hosts.unwrap().by_name("one", Wanted::V4);
        found.unwrap().addresses.len()
    };
    files.refresh();
    let usual = files.policy();
    assert_eq!(count(&files), 1);
    directory.write("host.conf", "multi on\n");
    directory.write("gai.conf", "precedence ::ffff:0:0/96 100\n");
    files.refresh();
    assert_eq!(count(&files), 2);
    assert_ne!(files.policy(), usual);
}

#[test]
fn no_reload() {
    let directory = Directory::new();
    directory.write("resolv.conf", "nameserver 10.0.0.1\noptions no-reload\n");
    let mut files = Files::new(&directory.0, |_| {});
    files.refresh();
    directory.write("resolv.conf", "nameserver 10.0.0.2\n");
    assert!(!files.refresh());
    assert_eq!(servers(&files), ["10.0.0.1"]);
}

#[test]
fn what_is_adjusted_stays_so() {
    let directory = Directory::new();
    let mut files = Files::new(&directory.0, |conf| conf.ndots = 9);
    files.refresh();
    assert_eq!(files.configuration().conf.ndots, 9);
    directory.write("resolv.conf", "options ndots:2\n");
    files.refresh();
    assert_eq!(files.configuration().conf.ndots, 9);
}

#[test]
fn a_file_of_hosts_that_cannot_be_read() {
    assert!(read_hosts(Path::new("/nonexistent/hosts")).is_err());
}
