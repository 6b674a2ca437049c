//! Socket addresses as Python has them.

use super::errors::{last_error, raised};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;
use std::str::FromStr;

/// Room for an address of any family.
#[derive(Clone)]
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

    /// For a system call to read from.
    pub fn as_ptr(&self) -> *const libc::sockaddr {
        self.storage.as_ptr().cast()
    }

    /// Whether two addresses are the same to the last byte.
    pub fn is(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }

    fn bytes(&self) -> &[u8] {
        let len = self.len.min(CAPACITY) as usize;
        // SAFETY: within the storage, all of which was zeroed.
        unsafe { std::slice::from_raw_parts(self.storage.as_ptr().cast(), len) }
    }

    /// An address of a family from one of Python's, if that is written out: an IP address in
    /// digits, a port in its range, a path of ASCII letters or bytes. None for whatever else may be
    /// right or wrong (names of hosts, for one): the socket module knows.
    pub fn written_out(family: c_int, object: &Bound<'_, PyAny>) -> Option<Self> {
        match family {
            libc::AF_INET => Self::inet(object),
            libc::AF_INET6 => Self::inet6(object),
            libc::AF_UNIX => Self::unix(object),
            _ => None,
        }
    }

    fn inet(object: &Bound<'_, PyAny>) -> Option<Self> {
        let tuple = object.cast_exact::<PyTuple>().ok().filter(|tuple| tuple.len() == 2)?;
        let (host, port) = host_and_port::<Ipv4Addr>(tuple)?;
        let mut address = Self::new();
        // SAFETY: zeroed, and large enough for any address.
        let inet = unsafe { &mut *address.storage.as_mut_ptr().cast::<libc::sockaddr_in>() };
        inet.sin_family = libc::AF_INET as libc::sa_family_t;
        inet.sin_port = port.to_be();
        inet.sin_addr.s_addr = u32::from_ne_bytes(host.octets());
        address.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        Some(address)
    }

    fn inet6(object: &Bound<'_, PyAny>) -> Option<Self> {
        /// A flow label and a traffic class.
        const MOST_FLOW: u32 = 0xf_ffff;
        let tuple = object.cast_exact::<PyTuple>().ok()?;
        let number = |index| match tuple.len() {
            len if index < len => exact_int(&tuple.get_item(index).ok()?),
            _ => Some(0),
        };
        if !(2..=4).contains(&tuple.len()) {
            return None;
        }
        let (host, port) = host_and_port::<Ipv6Addr>(tuple)?;
        let flow = number(2).filter(|flow| *flow <= MOST_FLOW)?;
        let scope = number(3)?;
        let mut address = Self::new();
        // SAFETY: as above.
        let inet = unsafe { &mut *address.storage.as_mut_ptr().cast::<libc::sockaddr_in6>() };
        inet.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        inet.sin6_port = port.to_be();
        inet.sin6_flowinfo = flow.to_be();
        inet.sin6_addr.s6_addr = host.octets();
        inet.sin6_scope_id = scope;
        address.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        Some(address)
    }

    fn unix(object: &Bound<'_, PyAny>) -> Option<Self> {
        let path = if let Ok(text) = object.cast_exact::<PyString>() {
            text.to_str().ok().filter(|text| text.is_ascii())?.as_bytes()
        } else {
            object.cast_exact::<PyBytes>().ok()?.as_bytes()
        };
        let mut address = Self::new();
        // SAFETY: as above.
        let unix = unsafe { &mut *address.storage.as_mut_ptr().cast::<libc::sockaddr_un>() };
        let is_abstract = *path.first()? == 0;
        let ends = usize::from(!is_abstract);
        if path.len() + ends > unix.sun_path.len() || (!is_abstract && path.contains(&0)) {
            return None;
        }
        unix.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, from) in unix.sun_path.iter_mut().zip(path) {
            *to = *from as c_char;
        }
        let len = offset_of!(libc::sockaddr_un, sun_path) + path.len() + ends;
        address.len = len as libc::socklen_t;
        Some(address)
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
                    // The C library's function takes several times as long.
                    let host = Ipv4Addr::from(inet.sin_addr.s_addr.to_ne_bytes());
                    let mut text = [0; 16];
                    let mut rest = &mut text[..];
                    write!(rest, "{host}").expect("room for any");
                    let len = 16 - rest.len();
                    let host = PyString::from_bytes(py, &text[..len])?;
                    Ok((host, u16::from_be(inet.sin_port)).into_pyobject(py)?.into_ptr())
                }
                libc::AF_INET6 => {
                    let inet = &*storage.cast::<libc::sockaddr_in6>();
                    let host = host6(py, &inet.sin6_addr)?;
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

/// The first two of an address: a host in digits and a port.
fn host_and_port<H: FromStr>(tuple: &Bound<'_, PyTuple>) -> Option<(H, u16)> {
    let host = tuple.get_item(0).ok()?;
    let host = host.cast_exact::<PyString>().ok()?.to_str().ok()?.parse().ok()?;
    let port = exact_int(&tuple.get_item(1).ok()?)?;
    Some((host, u16::try_from(port).ok()?))
}

/// An int of 32 bits.
fn exact_int(object: &Bound<'_, PyAny>) -> Option<u32> {
    object.cast_exact::<PyInt>().ok()?.extract().ok()
}

/// The text of an address.
fn host6<'py>(py: Python<'py>, bytes: &libc::in6_addr) -> PyResult<Bound<'py, PyAny>> {
    unsafe extern "C" {
        fn inet_ntop(
            family: c_int,
            source: *const c_void,
            text: *mut c_char,
            size: libc::socklen_t,
        ) -> *const c_char;
    }
    let mut text = [0 as c_char; 64];
    let (source, size) = (ptr::from_ref(bytes).cast(), text.len() as libc::socklen_t);
    // SAFETY: an address of the family; the text has room for any.
    unsafe {
        if inet_ntop(libc::AF_INET6, source, text.as_mut_ptr(), size).is_null() {
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
