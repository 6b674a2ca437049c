//! What programs say in place of resolv.conf.

use greenloop_dns::resolv_conf::{PORT, ResolvConf, Server};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::net::{IpAddr, SocketAddr};

/// The settings of a resolver; what is None is as the files say.
#[derive(Clone, Default, FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    /// The only one that must be named: pyo3 insists on one.
    servers: Option<Vec<String>>,
    #[pyo3(default)]
    search: Option<Vec<String>>,
    #[pyo3(default)]
    timeout: Option<f64>,
    #[pyo3(default)]
    tries: Option<u32>,
    #[pyo3(default)]
    ndots: Option<u32>,
    #[pyo3(default)]
    udp_port: Option<u16>,
    #[pyo3(default)]
    tcp_port: Option<u16>,
    #[pyo3(default)]
    rotate: Option<bool>,
    #[pyo3(default)]
    edns: Option<bool>,
    #[pyo3(default)]
    tcp: Option<bool>,
    #[pyo3(default)]
    first_only: Option<bool>,
    #[pyo3(default)]
    retry_over_tcp: Option<bool>,
    #[pyo3(default)]
    recurse: Option<bool>,
}

impl Options {
    /// # Errors
    ///
    /// ValueError for what cannot be.
    pub fn check(&self) -> PyResult<()> {
        for server in self.servers.iter().flatten() {
            address_of(server)?;
        }
        if self.servers.as_ref().is_some_and(Vec::is_empty) {
            return Err(PyValueError::new_err("there must be a name server"));
        }
        if self.timeout.is_some_and(|seconds| seconds.is_nan() || seconds <= 0.0) {
            return Err(PyValueError::new_err("timeout must be positive"));
        }
        if self.tries == Some(0) {
            return Err(PyValueError::new_err("tries must be positive"));
        }
        Ok(())
    }

    /// Puts them in place of what the files say.
    pub fn apply(&self, conf: &mut ResolvConf) {
        if let Some(servers) = &self.servers {
            conf.servers = servers
                .iter()
                .filter_map(|server| address_of(server).ok())
                .map(Server::new)
                .collect();
        }
        if self.first_only == Some(true) {
            conf.servers.truncate(1);
        }
        for server in &mut conf.servers {
            let named = server.udp.port();
            server.udp.set_port(self.udp_port.filter(|_| named == PORT).unwrap_or(named));
            server.tcp.set_port(self.tcp_port.filter(|_| named == PORT).unwrap_or(named));
        }
        if let Some(search) = &self.search {
            conf.search.clone_from(search);
        }
        if let Some(seconds) = self.timeout {
            conf.timeout = (seconds * 1e9) as u64;
        }
        conf.attempts = self.tries.unwrap_or(conf.attempts);
        conf.ndots = self.ndots.unwrap_or(conf.ndots);
        conf.rotate = self.rotate.unwrap_or(conf.rotate);
        conf.edns = self.edns.unwrap_or(conf.edns);
        conf.tcp = self.tcp.unwrap_or(conf.tcp);
        conf.retry_over_tcp = self.retry_over_tcp.unwrap_or(conf.retry_over_tcp);
        conf.recurse = self.recurse.unwrap_or(conf.recurse);
    }
}

/// A server as "10.0.0.1", "10.0.0.1:5353", "::1" or "[::1]:5353".
fn address_of(server: &str) -> PyResult<SocketAddr> {
    let text = server.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>()
        .map(|address| SocketAddr::new(address, PORT))
        .or_else(|_| text.parse())
        .map_err(|_| PyValueError::new_err(format!("not the address of a name server: {server:?}")))
}
