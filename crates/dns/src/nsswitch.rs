//! `/etc/nsswitch.conf`: where to look for hosts. See nsswitch.conf(5).

/// A place to look in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `/etc/hosts`.
    Files,
    /// Name servers.
    Dns,
}

/// How a look went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is something.
    Success,
    /// There is nothing.
    NotFound,
    /// The source cannot be used.
    Unavailable,
    /// The source cannot be used now.
    TryAgain,
}

impl Status {
    const ALL: [Self; 4] = [Self::Success, Self::NotFound, Self::Unavailable, Self::TryAgain];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .zip(["success", "notfound", "unavail", "tryagain"])
            .find_map(|(status, name)| word.eq_ignore_ascii_case(name).then_some(status))
    }
}

/// A source, and after which results the next one is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The source.
    pub source: Source,
    returns: [bool; 4],
}

impl Service {
    fn new(source: Source) -> Self {
        Self { source, returns: [true, false, false, false] }
    }

    /// Whether a result is the last word.
    pub fn returns(&self, status: Status) -> bool {
        self.returns[status as usize]
    }

    /// Takes the items between brackets: `[!STATUS=action ...]`.
    fn take_actions(&mut self, text: &str) {
        for item in text.split_ascii_whitespace() {
            let Some((status, action)) = item.split_once('=') else { continue };
            let (negated, status) = match status.strip_prefix('!') {
                Some(status) => (true, status),
                None => (false, status),
            };
            let Some(status) = Status::parse(status) else { continue };
            // "merge" is for groups: with hosts the C library takes the first.
            let returns = !action.eq_ignore_ascii_case("continue");
            for each in Status::ALL {
                if (each == status) != negated {
                    self.returns[each as usize] = returns;
                }
            }
        }
    }
}

/// The sources of hosts that a file's text names. Those that are not known here, such as mdns, are
/// left out, as if they were not installed.
pub fn parse(text: &str) -> Vec<Service> {
    let line = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim_start())
        .filter_map(|line| line.strip_prefix("hosts"))
        .find_map(|rest| rest.trim_start().strip_prefix(':'));
    let Some(mut rest) = line else {
        return vec![Service::new(Source::Files), Service::new(Source::Dns)];
    };
    let mut services = Vec::new();
    // Whether the last one named is known.
    let mut is_known = false;
    loop {
        rest = rest.trim_start();
        if let Some(actions) = rest.strip_prefix('[') {
            let (actions, after) = actions.split_once(']').unwrap_or((actions, ""));
            if is_known && let Some(last) = services.last_mut() {
                Service::take_actions(last, actions);
            }
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '[').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let source = match name {
            "" => return services,
            "files" => Some(Source::Files),
            "dns" => Some(Source::Dns),
            _ => None,
        };
        is_known = source.is_some();
        services.extend(source.map(Service::new));
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Vec<Source> {
        parse(text).iter().map(|service| service.source).collect()
    }

    #[test]
    fn files_come_before_dns_unless_said_otherwise() {
        assert_eq!(sources(""), [Source::Files, Source::Dns]);
        assert_eq!(sources("passwd: files\n#hosts: dns\n"), [Source::Files, Source::Dns]);
        assert_eq!(sources("hosts: dns files # comment\n"), [Source::Dns, Source::Files]);
        assert_eq!(sources("  hosts :\tdns"), [Source::Dns]);
        assert_eq!(sources("hosts: mymachines resolve\n"), []);
    }

    #[test]
    fn unknown_sources_go_with_their_actions() {
        let text = "hosts: files mdns4_minimal [NOTFOUND=return] dns [!UNAVAIL=return] mdns4";
        let services = parse(text);
        assert_eq!(services.len(), 2);
        assert!(!services[0].returns(Status::NotFound));
        assert!(services[0].returns(Status::Success));
        assert!(services[1].returns(Status::NotFound));
        assert!(services[1].returns(Status::TryAgain));
        assert!(!services[1].returns(Status::Unavailable));
    }

    #[test]
    fn actions_may_stand_close_and_be_several() {
        let services = parse("hosts: files[notfound=RETURN unavail=return]dns");
        assert_eq!(services.len(), 2);
        assert!(services[0].returns(Status::NotFound) && services[0].returns(Status::Unavailable));
        assert!(!services[0].returns(Status::TryAgain));
        let services = parse("hosts: files [SUCCESS=continue] dns");
        assert!(!services[0].returns(Status::Success));
    }
}
