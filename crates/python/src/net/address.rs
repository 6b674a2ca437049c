//! Socket addresses as Python has them.

use super::errors::{last_error, raised};
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{MaybeUninit, offset_of};

/// Room for an address of any family.
pub struct Address {
    storage: MaybeUninit<libc::sockaddr_storage>,
    pub len: libc::socklen_t,
}

const CAPACITY: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

impl Address {
    pub fn new() -> Self {
        Self { storage: MaybeUninit::zeroed(), len: CAPACITY }
    }

    /// For a system call to write to; `len` goes with it.
    pub fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.len = CAPACITY;
        self.storage.as_mut_ptr().cast()
    }

    /// Whether addresses of a family can be made here.
    pub fn knows(family: c_int) -> bool {
        matches!(family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX)
    }

    /// The address as the socket module gives it: `(host, port)`, `(host, port, flowinfo,
    /// scope_id)`, a path; None for no address. A new reference.
    pub fn to_python(&self, py: Python<'_>) -> PyResult<*mut ffi::PyObject> {
        if self.len == 0 {
            return Ok(py.None().into_ptr());
        }
        let storage = self.storage.as_ptr();
        // SAFETY: zeroed, then written by the system with an address of the family it names.
        unsafe {
            match c_int::from((*storage).ss_family) {
                libc::AF_INET => {
                    let inet = &*storage.cast::<libc::sockaddr_in>();
                    let host = host(py, libc::AF_INET, (&raw const inet.sin_addr).cast())?;
                    Ok((host, u16::from_be(inet.sin_port)).into_pyobject(py)?.into_ptr())
                }
                libc::AF_INET6 => {
                    let inet = &*storage.cast::<libc::sockaddr_in6>();
                    let host = host(py, libc::AF_INET6, (&raw const inet.sin6_addr).cast())?;
                    let port = u16::from_be(inet.sin6_port);
                    let flow = u32::from_be(inet.sin6_flowinfo);
                    Ok((host, port, flow, inet.sin6_scope_id).into_pyobject(py)?.into_ptr())
                }
                _ => {
                    let unix = &*storage.cast::<libc::sockaddr_un>();
                    path(py, unix, self.len as usize)
                }
            }
        }
    }
}

/// The text of an IP address.
///
/// # Safety
///
/// `bytes` points to an address of the family.
unsafe fn host<'py>(
    py: Python<'py>,
    family: c_int,
    bytes: *const c_void,
) -> PyResult<Bound<'py, PyAny>> {
    unsafe extern "C" {
        fn inet_ntop(
            family: c_int,
            source: *const c_void,
            text: *mut c_char,
            size: libc::socklen_t,
        ) -> *const c_char;
    }
    let mut text = [0 as c_char; 64];
    // SAFETY: as the caller guarantees; the text has room for any address.
    unsafe {
        if inet_ntop(family, bytes, text.as_mut_ptr(), text.len() as libc::socklen_t).is_null() {
            return Err(last_error(py));
        }
        Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_FromString(text.as_ptr()))
    }
}

/// The path of a Unix socket: text, or bytes in the abstract name space. A new reference.
fn path(py: Python<'_>, unix: &libc::sockaddr_un, len: usize) -> PyResult<*mut ffi::PyObject> {
    let len = len.saturating_sub(offset_of!(libc::sockaddr_un, sun_path));
    let start = unix.sun_path.as_ptr();
    // SAFETY: the address was zeroed before the system wrote it and the storage is longer than a
    // path can be, so the text ends.
    let object = unsafe {
        if len > 0 && *start == 0 {
            ffi::PyBytes_FromStringAndSize(start, len.min(unix.sun_path.len()) as isize)
        } else {
            ffi::PyUnicode_DecodeFSDefault(CStr::from_ptr(start).as_ptr())
        }
    };
    if object.is_null() { Err(raised(py)) } else { Ok(object) }
}
