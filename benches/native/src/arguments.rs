//! `--name VALUE` arguments with numbers as values.

use std::collections::HashMap;

pub struct Arguments(HashMap<String, f64>);

impl Arguments {
    /// Those of the process. Ends it with a message if they are malformed.
    pub fn parse(known: &[&str]) -> Self {
        let mut values = HashMap::new();
        let mut rest = std::env::args().skip(1);
        while let Some(argument) = rest.next() {
            let name = argument.strip_prefix("--").filter(|name| known.contains(name));
            let Some(name) = name else { fail(&format!("unknown argument: {argument}")) };
            match rest.next().and_then(|value| value.parse().ok()) {
                Some(value) => values.insert(name.to_owned(), value),
                None => fail(&format!("--{name} needs a number")),
            };
        }
        Self(values)
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Ends the process with a message if the argument was not given.
    pub fn require(&self, name: &str) -> f64 {
        self.get(name).unwrap_or_else(|| fail(&format!("--{name} is missing")))
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2);
}
