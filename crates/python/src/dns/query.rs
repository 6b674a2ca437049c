//! A question on its way: a greenlet asks, others wait for what it brings.

use super::resolver::NameResolver;
use super::sockets;
use crate::hub::HubObject;
use crate::hub::queue::Entry;
use crate::hub::wait::{Wait, WaitList};
use crate::task::functions::new_raw;
use greenloop_dns::exchange::{Exchange, Step};
use greenloop_dns::message::{Failure, Outcome, Question};
use greenloop_dns::resolv_conf::ResolvConf;
use greenloop_dns::system::random;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::thread::{self, ThreadId};

/// What somebody waits for who looks up a name.
#[pyclass(frozen, name = "_Query", module = "greenloop._core")]
pub struct Query {
    resolver: Py<NameResolver>,
    pub question: Question,
    pub conf: Arc<ResolvConf>,
    /// Whose hub it waits in.
    pub thread: ThreadId,
    waiters: WaitList,
    outcome: RefCell<Option<Outcome>>,
}

// SAFETY: the cells are touched with the GIL held, for moments in which no Python code runs.
unsafe impl Sync for Query {}

impl Query {
    /// Puts a question on its way, to the servers from the `first` one on.
    pub fn start(
        resolver: &Bound<'_, NameResolver>,
        question: Question,
        conf: Arc<ResolvConf>,
        first: usize,
    ) -> PyResult<Py<Self>> {
        let py = resolver.py();
        let query = Self {
            resolver: resolver.clone().unbind(),
            question: question.clone(),
            conf: Arc::clone(&conf),
            thread: thread::current().id(),
            waiters: WaitList::new(),
            outcome: RefCell::new(None),
        };
        let query = Py::new(py, query)?;
        let exchange = RefCell::new(Some(Exchange::new(question, conf, first, random)));
        let driver = Driver { query: query.clone_ref(py), exchange };
        let greenlet = new_raw(Bound::new(py, driver)?.into_any())?;
        HubObject::get(py)?.push_local(Entry::Start { greenlet: greenlet.into_ptr().cast() });
        Ok(query)
    }

    /// Waits for the outcome.
    ///
    /// # Errors
    ///
    /// What is thrown into the greenlet meanwhile. The query goes on.
    pub fn wait(slf: &Bound<'_, Self>) -> PyResult<Outcome> {
        let this = slf.get();
        loop {
            if let Some(outcome) = &*this.outcome.borrow() {
                return Ok(outcome.clone());
            }
            let wait = Wait::begin(slf.py(), slf.as_ptr())?;
            wait.park(Some(&this.waiters), None).into_result()?;
        }
    }

    fn finish(slf: &Bound<'_, Self>, outcome: Outcome, ttl: u32) {
        let this = slf.get();
        if this.outcome.borrow().is_some() {
            return;
        }
        this.resolver.bind(slf.py()).get().finished(slf, &outcome, ttl);
        this.outcome.replace(Some(outcome));
        this.waiters.wake_all();
    }
}

#[pymethods]
impl Query {
    fn __repr__(&self) -> String {
        format!("<query for {} {}>", self.question.name, self.question.kind.as_str())
    }
}

/// What the greenlet of a query runs. However that ends, whether or not it ever began: those who
/// wait are told.
#[pyclass(frozen, name = "_Driver", module = "greenloop._core")]
struct Driver {
    query: Py<Query>,
    exchange: RefCell<Option<Exchange>>,
}

// SAFETY: as for Query.
unsafe impl Sync for Driver {}

#[pymethods]
impl Driver {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(mut exchange) = this.exchange.take() else { return Ok(()) };
        loop {
            match exchange.step() {
                Step::Try(attempt) => sockets::make(py, &attempt, &mut exchange)?,
                Step::Done(outcome, ttl) => {
                    Query::finish(this.query.bind(py), outcome, ttl);
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: Python objects are freed with the GIL held.
        let py = unsafe { Python::assume_attached() };
        Query::finish(self.query.bind(py), Outcome::Failed(Failure::Timeout), 0);
    }
}
