//! What a request asks for: the second word of its first line (RFC 9112, section 3.2).

use crate::Refusal;
use crate::authority::{has_port, is_authority};

/// Which of the four forms a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`, as proxies are sent.
    Absolute,
    /// `host:port`, of CONNECT.
    Authority,
    /// `*`, of OPTIONS.
    Asterisk,
}

/// A request target, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    /// As it was sent.
    pub raw: &'b str,
    /// Which form it has.
    pub form: Form,
    /// `http` or `https`, of the absolute form, in whatever case.
    pub scheme: Option<&'b str>,
    /// Host and port, of the absolute form and of CONNECT.
    pub authority: Option<&'b str>,
    /// Not decoded. Empty for the forms that have none; `/` if an absolute one leaves it out.
    pub path: &'b str,
    /// What follows the first question mark. Not decoded.
    pub query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Takes a target apart.
    ///
    /// # Errors
    ///
    /// It has none of the forms, or not the one of its method.
    pub fn parse(method: &str, raw: &'b str) -> Result<Self, Refusal> {
        if method == "CONNECT" {
            if !is_authority(raw.as_bytes()) || !has_port(raw.as_bytes()) {
                return Err(Refusal::TargetForm);
            }
            let (form, authority) = (Form::Authority, Some(raw));
            return Ok(Self { raw, form, scheme: None, authority, path: "", query: None });
        }
        if raw.bytes().any(|byte| byte == b'#') {
            // A fragment is for the client to keep.
            return Err(Refusal::Target);
        }
        if raw.starts_with('/') {
            let (path, query) = split_query(raw);
            return Ok(Self {
                raw,
                form: Form::Origin,
                scheme: None,
                authority: None,
                path,
                query,
            });
        }
        if raw == "*" {
            if method != "OPTIONS" {
                return Err(Refusal::TargetForm);
            }
            return Ok(Self {
                raw,
                form: Form::Asterisk,
                scheme: None,
                authority: None,
                path: "",
                query: None,
            });
        }
        let (scheme, rest) = raw.split_once("://").ok_or(Refusal::Target)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::Target);
        }
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if !is_authority(authority.as_bytes()) {
            return Err(Refusal::Target);
        }
        let (path, query) = split_query(rest);
        Ok(Self {
            raw,
            form: Form::Absolute,
            scheme: Some(scheme),
            authority: Some(authority),
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}
