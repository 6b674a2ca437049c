//! Addresses, and errors of the C library, as texts.

use greenloop_dns::files::read_hosts;
use pyo3::prelude::*;
use std::ffi::{CStr, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

unsafe extern "C" {
    // Not in the crate libc.
    fn hstrerror(error: c_int) -> *const c_char;
}

/// An address as inet_ntop(3) writes it. Of those that begin with 96 bits of zeros, which nobody has,
/// Rust does not write the rest as IPv4.
pub fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V6(six) if six.segments()[..6] == [0; 6] && six.segments()[6] != 0 => {
            format!("::{}", Ipv4Addr::from_bits(six.to_bits() as u32))
        }
        _ => address.to_string(),
    }
}

/// gai_strerror(error)
/// --
///
/// What the C library says of an error of getaddrinfo (EAI_...).
#[pyfunction]
fn gai_strerror(error: c_int) -> String {
    // SAFETY: returns a static text for every number.
    unsafe { CStr::from_ptr(libc::gai_strerror(error)) }.to_string_lossy().into_owned()
}

/// hstrerror(error)
/// --
///
/// What the C library says of an error of gethostbyname (h_errno).
#[pyfunction]
#[pyo3(name = "hstrerror")]
fn host_error(error: c_int) -> String {
    // SAFETY: as above.
    unsafe { CStr::from_ptr(hstrerror(error)) }.to_string_lossy().into_owned()
}

/// read_hosts(path)
/// --
///
/// The lines of a file as /etc/hosts: `(address, names)`.
///
/// Raises OSError if it cannot be read.
#[pyfunction(name = "read_hosts")]
fn hosts_of_file(path: PathBuf) -> PyResult<Vec<(String, Vec<String>)>> {
    let hosts = read_hosts(&path)?;
    Ok(hosts.lines().iter().map(|line| (address(line.address), line.names.clone())).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for function in [
        wrap_pyfunction!(gai_strerror, module)?,
        wrap_pyfunction!(host_error, module)?,
        wrap_pyfunction!(hosts_of_file, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
