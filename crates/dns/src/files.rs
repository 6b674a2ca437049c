//! The files of `/etc` that say how names are looked up: read when they have changed.

use crate::hosts::{self, Hosts};
use crate::lookup::Configuration;
use crate::nsswitch;
use crate::order::Policy;
use crate::resolv_conf::{ResolvConf, Surroundings};
use crate::system;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What tells versions of a file apart; none if it is not there.
type Stamp = Option<(u64, u64, i64, i64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let data = fs::metadata(path).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
        data.size(),
    ))
}

/// Bytes that are no text are replaced: no name or address has any.
fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

struct Watched {
    path: PathBuf,
    /// None before the first look.
    stamp: Option<Stamp>,
}

impl Watched {
    fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name), stamp: None }
    }

    fn has_changed(&mut self) -> bool {
        let now = Some(stamp(&self.path));
        std::mem::replace(&mut self.stamp, now) != now
    }

    fn text(&self) -> Option<String> {
        read(&self.path)
    }
}

/// The files, and what they say.
pub struct Files {
    resolv_conf: Watched,
    nsswitch: Watched,
    hosts: Watched,
    host_conf: Watched,
    gai_conf: Watched,
    configuration: Configuration,
    policy: Arc<Policy>,
    /// What is to be in place of what resolv.conf says.
    adjust: Box<dyn Fn(&mut ResolvConf) + Send + Sync>,
}

impl Files {
    /// Those of a directory, `/etc` as a rule. They are read when they are first needed. `adjust`
    /// is given what resolv.conf says to change it.
    pub fn new(directory: &Path, adjust: impl Fn(&mut ResolvConf) + Send + Sync + 'static) -> Self {
        Self {
            resolv_conf: Watched::new(directory, "resolv.conf"),
            nsswitch: Watched::new(directory, "nsswitch.conf"),
            hosts: Watched::new(directory, "hosts"),
            host_conf: Watched::new(directory, "host.conf"),
            gai_conf: Watched::new(directory, "gai.conf"),
            configuration: Configuration {
                services: Arc::default(),
                hosts: None,
                conf: Arc::default(),
            },
            policy: Arc::default(),
            adjust: Box::new(adjust),
        }
    }

    /// Reads what has changed. True if other servers may say other things now.
    pub fn refresh(&mut self) -> bool {
        if self.nsswitch.has_changed() {
            let text = self.nsswitch.text().unwrap_or_default();
            self.configuration.services = Arc::new(nsswitch::parse(&text));
        }
        // Both, whether or not the first has changed.
        if self.hosts.has_changed() | self.host_conf.has_changed() {
            let multi = hosts::is_multi(&self.host_conf.text().unwrap_or_default());
            self.configuration.hosts =
                self.hosts.text().map(|text| Arc::new(Hosts::parse(&text, multi)));
        }
        if self.gai_conf.has_changed() {
            self.policy = Arc::new(Policy::parse(&self.gai_conf.text().unwrap_or_default()));
        }
        let is_fixed = self.resolv_conf.stamp.is_some() && self.configuration.conf.no_reload;
        if is_fixed || !self.resolv_conf.has_changed() {
            return false;
        }
        let around = Surroundings {
            host_name: system::host_name(),
            local_domain: std::env::var("LOCALDOMAIN").ok(),
            options: std::env::var("RES_OPTIONS").ok(),
        };
        let text = self.resolv_conf.text().unwrap_or_default();
        let mut conf = ResolvConf::parse(&text, &around, &system::interface_index);
        (self.adjust)(&mut conf);
        self.configuration.conf = Arc::new(conf);
        true
    }

    /// Where to look and whom to ask, as of the last `refresh`.
    pub fn configuration(&self) -> Configuration {
        self.configuration.clone()
    }

    /// The order of addresses, as of the last `refresh`.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }
}

/// The lines of a file of hosts.
///
/// # Errors
///
/// That of reading the file.
pub fn read_hosts(path: &Path) -> std::io::Result<Hosts> {
    Ok(Hosts::parse(&String::from_utf8_lossy(&fs::read(path)?), true))
}
