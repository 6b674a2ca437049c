//! The Python class `_core.NameResolver`; `greenloop.resolver.native` builds on it.

use super::options::Options;
use super::query::Query;
use super::texts;
use greenloop_dns::cache::Cache;
use greenloop_dns::files::Files;
use greenloop_dns::lookup::{Ask, Found, Miss, Wanted};
use greenloop_dns::message::{Absence, Answer, Data, Failure, Kind, Outcome, Question};
use greenloop_dns::name::{self, Name};
use greenloop_dns::resolv_conf::ResolvConf;
use greenloop_dns::system::{Routes, configured, own_addresses};
use greenloop_reactor::monotonic_ns;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// Numbers for why a host is not found: those of h_errno, which netdb.h has.
const HOST_NOT_FOUND: i32 = 1;
const TRY_AGAIN: i32 = 2;
const NO_RECOVERY: i32 = 3;
const NO_DATA: i32 = 4;

/// NameResolver(options, directory="/etc", cache_size=1000, ask=None)
/// --
///
/// Finds hosts as the C library does, blocking the calling greenlet only.
///
/// options: a dict of what to use in place of what resolv.conf says. directory: where that and the
/// other files are. cache_size: how many answers are kept, as long as they hold. ask: a function to
/// put questions to name servers in place of our own: called with a full name and a list of "A",
/// "AAAA" or "PTR", it returns a list with, for each of them, `(stands_for, found)`: the names that the
/// one asked for stands for, the last of which has the addresses or names found; or the number of
/// h_errno that says why not; or None if nobody answered in time.
///
/// Raises ValueError for options that cannot be.
#[pyclass(frozen, name = "NameResolver", module = "greenloop._core", weakref)]
pub struct NameResolver {
    files: RefCell<Files>,
    cache: RefCell<Cache>,
    /// Questions on their way. Those of other threads are not shared: who waits there counts on its
    /// own hub.
    queries: RefCell<HashMap<(Question, ThreadId), Py<Query>>>,
    /// The process that the queries belong to.
    process: Cell<u32>,
    /// With which server the next question begins, if they take turns.
    turn: Cell<usize>,
    ask: Option<Py<PyAny>>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for NameResolver {}

/// A host: name, other names, addresses. Or the number that says why there is none.
#[derive(IntoPyObject)]
enum Looked {
    Host((String, Vec<String>, Vec<String>)),
    Miss(i32),
}

impl From<Result<Found, Miss>> for Looked {
    fn from(result: Result<Found, Miss>) -> Self {
        match result {
            Ok(found) => {
                let addresses = found.addresses.into_iter().map(texts::address).collect();
                Self::Host((found.canonical, found.aliases, addresses))
            }
            Err(miss) => Self::Miss(match miss {
                Miss::NoName => HOST_NOT_FOUND,
                Miss::TryAgain => TRY_AGAIN,
                Miss::Permanent => NO_RECOVERY,
                Miss::NoData => NO_DATA,
            }),
        }
    }
}

impl NameResolver {
    /// Reads the files that have changed. What other servers said is forgotten.
    fn refresh(&self) {
        if self.files.borrow_mut().refresh() {
            self.cache.borrow_mut().clear();
        }
    }

    /// Takes the outcome of a query.
    pub fn finished(&self, query: &Bound<'_, Query>, outcome: &Outcome, ttl: u32) {
        let of = query.get();
        let key = (of.question.clone(), of.thread);
        let mut queries = self.queries.borrow_mut();
        let is_known = queries.get(&key).is_some_and(|known| known.as_ptr() == query.as_ptr());
        let known = if is_known { queries.remove(&key) } else { None };
        drop(queries);
        // When nothing is borrowed any more.
        drop(known);
        let is_current = Arc::ptr_eq(&self.files.borrow().configuration().conf, &of.conf);
        if is_known && is_current {
            self.cache.borrow_mut().put(key.0, outcome.clone(), ttl, monotonic_ns());
        }
    }

    /// The query for a question: one that is on its way, or a new one.
    fn query(slf: &Bound<'_, Self>, question: Question) -> PyResult<Py<Query>> {
        let this = slf.get();
        let process = std::process::id();
        if this.process.replace(process) != process {
            // They were the parent's, whose greenlets go on there.
            drop(this.queries.take());
        }
        let conf = this.files.borrow().configuration().conf;
        let key = (question, thread::current().id());
        if let Some(query) = this.queries.borrow().get(&key)
            && Arc::ptr_eq(&query.get().conf, &conf)
        {
            return Ok(query.clone_ref(slf.py()));
        }
        let first = if conf.rotate { this.turn.replace(this.turn.get() + 1) } else { 0 };
        let query = Query::start(slf, key.0.clone(), conf, first)?;
        let former = this.queries.borrow_mut().insert(key, query.clone_ref(slf.py()));
        drop(former);
        Ok(query)
    }
}

/// Asks for whoever looks something up.
struct Asker<'a, 'py>(&'a Bound<'py, NameResolver>);

impl Ask for Asker<'_, '_> {
    type Error = PyErr;

    fn ask(&mut self, conf: &ResolvConf, name: &Name, kinds: &[Kind]) -> PyResult<Vec<Outcome>> {
        let resolver = self.0.get();
        if let Some(function) = &resolver.ask {
            return ask_function(function.bind(self.0.py()), name, kinds);
        }
        let mut asked = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let question = Question { name: name.clone(), kind: *kind };
            let known = resolver.cache.borrow_mut().get(&question, monotonic_ns());
            asked.push(match known {
                Some(outcome) => Ok(outcome),
                None => {
                    let query = NameResolver::query(self.0, question)?;
                    if conf.one_by_one {
                        Ok(Query::wait(query.bind(self.0.py()))?)
                    } else {
                        Err(query)
                    }
                }
            });
        }
        // All are on their way by now.
        let wait = |query: Py<Query>| Query::wait(query.bind(self.0.py()));
        asked.into_iter().map(|asked| asked.or_else(wait)).collect()
    }
}

/// Has a Python function ask.
fn ask_function(
    function: &Bound<'_, PyAny>,
    name: &Name,
    kinds: &[Kind],
) -> PyResult<Vec<Outcome>> {
    let py = function.py();
    let names = PyList::new(py, kinds.iter().map(|kind| kind.as_str()))?;
    let said = function.call1((name::text(name), names))?;
    let mut outcomes = Vec::with_capacity(kinds.len());
    for (one, kind) in said.try_iter()?.zip(kinds) {
        let one = one?;
        if one.is_none() {
            outcomes.push(Outcome::Failed(Failure::Timeout));
            continue;
        }
        if let Ok(number) = one.extract::<i32>() {
            outcomes.push(match number {
                HOST_NOT_FOUND => Outcome::Absent(Absence::Name),
                NO_DATA => Outcome::Absent(Absence::Data),
                TRY_AGAIN => Outcome::Failed(Failure::Server),
                _ => Outcome::Failed(Failure::Permanent),
            });
            continue;
        }
        let (mut stands_for, mut data): (Vec<String>, Vec<String>) = one.extract()?;
        let is_plain = |text: &String| {
            name::parse(text.as_bytes()).is_some_and(|name| name::is_of_host(&name))
        };
        stands_for.retain(is_plain);
        if *kind == Kind::Ptr {
            data.retain(is_plain);
        }
        let data = match kind {
            Kind::Ptr => Data::Names(data),
            Kind::A | Kind::Aaaa => {
                let addresses: Result<_, _> = data.iter().map(|text| parse_address(text)).collect();
                Data::Addresses(addresses?)
            }
        };
        outcomes.push(Outcome::Found(Arc::new(Answer { stands_for, data })));
    }
    if outcomes.len() != kinds.len() {
        return Err(PyValueError::new_err("ask() must return something for each kind"));
    }
    Ok(outcomes)
}

fn parse_address(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("not an address: {text:?}")))
}

#[pymethods]
impl NameResolver {
    #[new]
    #[pyo3(
        signature = (options, directory = PathBuf::from("/etc"), cache_size = 1000, ask = None),
        text_signature = "(options, directory='/etc', cache_size=1000, ask=None)"
    )]
    fn new(
        options: Options,
        directory: PathBuf,
        cache_size: usize,
        ask: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        options.check()?;
        Ok(Self {
            files: RefCell::new(Files::new(&directory, move |conf| options.apply(conf))),
            cache: RefCell::new(Cache::new(cache_size)),
            queries: RefCell::default(),
            process: Cell::new(std::process::id()),
            turn: Cell::new(0),
            ask,
        })
    }

    /// The addresses of a host in the order in which to try them, as for getaddrinfo.
    ///
    /// name: as it goes over the wire. family: AF_INET, AF_INET6 or AF_UNSPEC. flags: of those of
    /// getaddrinfo, AI_ADDRCONFIG, AI_V4MAPPED and AI_ALL count.
    ///
    /// Returns `(name, other names, addresses)`, or the number of h_errno that says why not.
    #[pyo3(signature = (name, family, flags = 0))]
    fn addresses(slf: &Bound<'_, Self>, name: &[u8], family: i32, flags: i32) -> PyResult<Looked> {
        let this = slf.get();
        let mut wanted = wanted(family);
        if flags & libc::AI_ADDRCONFIG != 0
            && let Some(own) = own_addresses()
        {
            wanted = match (wanted, configured(&own)) {
                (Wanted::Both, (true, false)) => Wanted::V4,
                (Wanted::Both, (false, true)) => Wanted::V6,
                (Wanted::V4, (false, _)) | (Wanted::V6, (_, false)) => {
                    return Ok(Looked::Miss(HOST_NOT_FOUND));
                }
                (wanted, _) => wanted,
            };
        }
        this.refresh();
        let configuration = this.files.borrow().configuration();
        let mut ask = Asker(slf);
        let mut found = configuration.forward(&mut ask, name, wanted)?;
        let map = family == libc::AF_INET6 && flags & libc::AI_V4MAPPED != 0;
        let map_all = map && flags & libc::AI_ALL != 0;
        if let Ok(host) = &mut found
            && map
            && !map_all
        {
            // Mapped ones are for want of others, also where name servers have them.
            let is_real = |address: &IpAddr| address.to_canonical() == *address;
            if host.addresses.iter().any(is_real) {
                host.addresses.retain(is_real);
            }
        }
        if map_all || (map && found.is_err()) {
            let four = configuration.forward(&mut ask, name, Wanted::V4)?;
            let four = four.map(|mut host| {
                for address in &mut host.addresses {
                    if let IpAddr::V4(four) = *address {
                        *address = four.to_ipv6_mapped().into();
                    }
                }
                host
            });
            found = match (found, four) {
                (Ok(mut six), Ok(four)) => {
                    six.addresses.extend(four.addresses);
                    Ok(six)
                }
                (Ok(six), Err(_)) => Ok(six),
                (Err(_), four) => four,
            };
        }
        if let Ok(host) = &mut found
            && host.addresses.len() > 1
        {
            let routes = Routes::new();
            let policy = this.files.borrow().policy();
            policy.sort(&mut host.addresses, |address| routes.to(address));
        }
        Ok(found.into())
    }

    /// The host with a name, as for gethostbyname: its addresses are in the order in which they were
    /// found.
    fn host(slf: &Bound<'_, Self>, name: &[u8], family: i32) -> PyResult<Looked> {
        slf.get().refresh();
        let configuration = slf.get().files.borrow().configuration();
        Ok(configuration.forward(&mut Asker(slf), name, wanted(family))?.into())
    }

    /// The host with an address, as for gethostbyaddr.
    ///
    /// Raises ValueError for what is no address.
    fn reverse(slf: &Bound<'_, Self>, address: &str) -> PyResult<Looked> {
        let address = parse_address(address)?;
        slf.get().refresh();
        let configuration = slf.get().files.borrow().configuration();
        Ok(configuration.reverse(&mut Asker(slf), address)?.into())
    }

    /// Forgets what was asked before.
    fn clear(&self) {
        self.cache.borrow_mut().clear();
    }

    /// The name servers, as `(address, UDP port, TCP port)`.
    #[getter]
    fn servers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.refresh();
        let conf = self.files.borrow().configuration().conf;
        let server = |server: &greenloop_dns::resolv_conf::Server| {
            (server.udp.ip().to_string(), server.udp.port(), server.tcp.port()).into_pyobject(py)
        };
        conf.servers.iter().map(server).collect()
    }

    /// How many answers are kept.
    #[getter]
    fn cached(&self) -> usize {
        self.cache.borrow().len()
    }

    /// How many questions are on their way.
    #[getter]
    fn pending(&self) -> usize {
        self.queries.borrow().len()
    }
}

fn wanted(family: i32) -> Wanted {
    match family {
        libc::AF_INET => Wanted::V4,
        libc::AF_INET6 => Wanted::V6,
        _ => Wanted::Both,
    }
}
