//! Methods left to the C class that the socket class derives from. Its calls do not wait, the
//! descriptor being non-blocking: when one would have to, the wait is ours and it is made again.

use super::arguments::{Call, int};
use super::errors::{last_error, raised};
use super::state::SocketState;
use super::wait::{Direction, Operation};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use std::ffi::c_int;
use std::os::fd::RawFd;

type Object = *mut ffi::PyObject;
type Socket<'a, 'py> = &'a Bound<'py, PyAny>;
type State<'a, 'py> = &'a Bound<'py, SocketState>;

struct Method {
    name: &'static str,
    direction: Direction,
    found: PyOnceLock<Py<PyAny>>,
}

impl Method {
    const fn new(name: &'static str, direction: Direction) -> Self {
        Self { name, direction, found: PyOnceLock::new() }
    }

    /// The function of the C class.
    fn get<'a>(&'a self, py: Python<'_>) -> PyResult<&'a Py<PyAny>> {
        self.found.get_or_try_init(py, || {
            Ok(py.import("_socket")?.getattr("socket")?.getattr(self.name)?.unbind())
        })
    }

    /// Calls it with the socket and `args` until it does not have to wait.
    fn call(
        &self,
        socket: Socket<'_, '_>,
        state: State<'_, '_>,
        args: &mut Vec<Object>,
        names: Object,
        flags: c_int,
    ) -> PyResult<Object> {
        let py = socket.py();
        let function = self.get(py)?;
        let mut operation = Operation::new(socket, state, self.direction, flags);
        args.insert(0, socket.as_ptr());
        let count = args.len() - if names.is_null() { 0 } else { named(names) };
        loop {
            // SAFETY: the vectorcall convention, with arguments that our caller holds.
            let result =
                unsafe { ffi::PyObject_Vectorcall(function.as_ptr(), args.as_ptr(), count, names) };
            if !result.is_null() {
                return Ok(result);
            }
            // SAFETY: an exception is set.
            unsafe {
                if !operation.may_wait()
                    || ffi::PyErr_ExceptionMatches(ffi::PyExc_BlockingIOError) == 0
                {
                    return Err(raised(py));
                }
                ffi::PyErr_Clear();
            }
            operation.wait_unless_ready()?;
        }
    }
}

fn named(names: Object) -> usize {
    // SAFETY: the tuple of keyword names of a call.
    unsafe { ffi::PyTuple_GET_SIZE(names) as usize }
}

/// All arguments of a call, positional and keyword.
fn all(call: Call) -> Vec<Object> {
    let named = if call.names.is_null() { 0 } else { named(call.names) };
    let mut args = Vec::with_capacity(call.count + named + 1);
    for index in 0..call.count + named {
        // SAFETY: the vectorcall convention.
        args.push(unsafe { *call.values.add(index) });
    }
    args
}

/// Calls a method that takes flags as its positional argument number `flags`.
fn pass(
    method: &Method,
    socket: Socket<'_, '_>,
    state: State<'_, '_>,
    call: Call,
    flags: usize,
) -> PyResult<Object> {
    let mut args = all(call);
    let flags = if flags < call.count { dont_wait(socket.py(), args[flags])? } else { 0 };
    method.call(socket, state, &mut args, call.names, flags)
}

/// The flags given, 0 for anything that is none: the C function raises the error.
fn dont_wait(py: Python<'_>, flags: Object) -> PyResult<c_int> {
    // SAFETY: a valid object.
    if unsafe { ffi::PyLong_Check(flags) } == 0 {
        return Ok(0);
    }
    int(py, flags, 0)
}

pub fn recvfrom(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("recvfrom", Direction::Read);
    pass(&METHOD, socket, state, call, 1)
}

pub fn recvfrom_into(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("recvfrom_into", Direction::Read);
    pass(&METHOD, socket, state, call, 2)
}

pub fn recvmsg(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("recvmsg", Direction::Read);
    pass(&METHOD, socket, state, call, 2)
}

pub fn recvmsg_into(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("recvmsg_into", Direction::Read);
    pass(&METHOD, socket, state, call, 2)
}

pub fn accept(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("_accept", Direction::Read);
    let py = socket.py();
    // SAFETY: a new reference.
    let pair =
        unsafe { Bound::from_owned_ptr(py, pass(&METHOD, socket, state, call, usize::MAX)?) };
    let fd = pair.get_item(0)?.extract::<RawFd>()?;
    // The C function leaves it as it is.
    // SAFETY: an open descriptor, which nobody else knows yet.
    if unsafe { libc::ioctl(fd, libc::FIONBIO, &raw const ON) } != 0 {
        let error = last_error(py);
        // SAFETY: as above; nobody will know it.
        unsafe { libc::close(fd) };
        return Err(error);
    }
    Ok(pair.into_ptr())
}

/// For `FIONBIO`.
static ON: c_int = 1;

pub fn sendmsg_afalg(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("sendmsg_afalg", Direction::Write);
    let mut args = all(call);
    let flags = match position(socket.py(), call.names, "flags")? {
        Some(index) => dont_wait(socket.py(), args[call.count + index])?,
        None => 0,
    };
    METHOD.call(socket, state, &mut args, call.names, flags)
}

/// Which of the keyword arguments has a name.
fn position(py: Python<'_>, names: Object, name: &str) -> PyResult<Option<usize>> {
    if names.is_null() {
        return Ok(None);
    }
    // SAFETY: the tuple of keyword names of a call.
    let names = unsafe { Bound::from_borrowed_ptr(py, names) }.cast_into::<PyTuple>()?;
    for (index, known) in names.iter().enumerate() {
        if known.extract::<&str>()? == name {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

pub fn sendto(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("sendto", Direction::Write);
    let address = if call.count == 3 { 2 } else { 1 };
    send(&METHOD, socket, state, call, if call.count == 3 { 1 } else { usize::MAX }, address)
}

pub fn sendmsg(socket: Socket<'_, '_>, state: State<'_, '_>, call: Call) -> PyResult<Object> {
    static METHOD: Method = Method::new("sendmsg", Direction::Write);
    send(&METHOD, socket, state, call, 2, 3)
}

/// Calls a method with an address as argument number `address`, its host name looked up.
fn send(
    method: &Method,
    socket: Socket<'_, '_>,
    state: State<'_, '_>,
    call: Call,
    flags: usize,
    address: usize,
) -> PyResult<Object> {
    let py = socket.py();
    let mut args = all(call);
    let flags = if flags < call.count { dont_wait(py, args[flags])? } else { 0 };
    let mut resolved = None;
    if address < call.count && needs_lookup(py, state.get().family(), args[address]) {
        // SAFETY: an argument.
        let given = unsafe { Bound::from_borrowed_ptr(py, args[address]) };
        let found = lookup(socket, &given)?;
        args[address] = found.as_ptr();
        resolved = Some(found);
    }
    let result = method.call(socket, state, &mut args, call.names, flags);
    drop(resolved);
    result
}

/// Whether an address holds a host name, which the C function would look up in place.
fn needs_lookup(py: Python<'_>, family: c_int, address: Object) -> bool {
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return false;
    }
    // SAFETY: a valid object, looked into as what it is checked to be.
    unsafe {
        if ffi::PyTuple_Check(address) == 0 || ffi::PyTuple_GET_SIZE(address) < 2 {
            return false;
        }
        let host = Bound::from_borrowed_ptr(py, ffi::PyTuple_GET_ITEM(address, 0));
        match host.extract::<&str>() {
            Ok(host) if family == libc::AF_INET => host.parse::<std::net::Ipv4Addr>().is_err(),
            Ok(host) => host.parse::<std::net::Ipv6Addr>().is_err(),
            // Bytes, or something that the C function refuses.
            Err(_) => true,
        }
    }
}

/// The address with its host looked up by the resolver.
fn lookup<'py>(
    socket: &Bound<'py, PyAny>,
    address: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = socket.py();
    let function = FUNCTION.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("greenloop.socket")?.getattr("_resolved")?.unbind())
    })?;
    function.bind(py).call1((socket, address))
}
