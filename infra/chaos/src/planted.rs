//! The planted bugs: what each breaks, and the one schedule that shows all of them.
//!
//! The bugs are compiled into the test build alone (`planted-bugs` of the runtime) and do nothing until ATELIER_PLANTED_BUG
//! names one. ATELIER_ABORT_AT ends a process at a named point of its code, the first time it comes there; a process without
//! bugs outlives every one of these points, which the same schedule without a bug shows.

use uuid::Uuid;

use crate::{
    check::Rule,
    plan::{Action, GATEWAY, Kind, Plan, Step, Submission, Way},
};

/// A bug that the harness must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// The value of ATELIER_PLANTED_BUG.
    pub name: &'static str,
    /// A rule that it breaks.
    pub breaks: Rule,
}

/// All of them.
pub const BUGS: [Bug; 5] = [
    Bug {
        name: "commit-before-produce",
        breaks: Rule::OneEndPerImage,
    },
    Bug {
        name: "produce-outside-transaction",
        breaks: Rule::NoIdTwice,
    },
    Bug {
        name: "persist-without-inbox",
        breaks: Rule::OneEndPerImage,
    },
    Bug {
        name: "outbox-marked-before-sent",
        breaks: Rule::OneEndPerTask,
    },
    Bug {
        name: "rejected-offset-skipped",
        breaks: Rule::OneEndPerImage,
    },
];

/// Which process ends where, once.
pub const ABORTS: [(&str, &str); 4] = [
    ("preprocess", "runtime::before-produce"),
    ("compose", "runtime::before-commit"),
    ("persist", "runtime::before-produce"),
    (GATEWAY, "outbox::before-publish"),
];

/// What is planted in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planting {
    /// Nothing: a run like any other.
    None,
    /// The aborts of the schedule, and a bug or none.
    Aborts(Option<Bug>),
}

impl Planting {
    /// Whether the run is like any other.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Variables of every process.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::Aborts(Some(bug)) => {
                vec![("ATELIER_PLANTED_BUG".to_owned(), bug.name.to_owned())]
            }
            Self::None | Self::Aborts(None) => Vec::new(),
        }
    }

    /// Variables of a process's first start.
    pub(crate) fn first_environment(&self, process: &str) -> Vec<(String, String)> {
        let aborts = ABORTS
            .iter()
            .filter(|(name, _)| !self.is_none() && *name == process);
        aborts
            .map(|(_, point)| ("ATELIER_ABORT_AT".to_owned(), (*point).to_owned()))
            .collect()
    }
}

/// The schedule: some tasks, one of them with a picture that fails as a whole message in `preprocess`.
pub fn plan() -> Plan {
    let submit = |number: u32, way, pictures| Step {
        at_ms: u64::from(number) * 100,
        action: Action::Submit(Submission {
            key: Uuid::from_u128(0xa7e1_0000 + u128::from(number)),
            way,
            pictures,
        }),
    };
    Plan {
        seed: 0,
        static_membership: true,
        // One process of each stage, so that every task passes the one that ends.
        second_instances: false,
        steps: vec![
            submit(1, Way::Http, vec![Kind::Drawing(1)]),
            submit(2, Way::Http, vec![Kind::Drawing(2), Kind::Truncated(2)]),
            submit(3, Way::Topic, vec![Kind::Drawing(3)]),
            submit(4, Way::Http, vec![Kind::Drawing(4), Kind::Drawing(5)]),
        ],
    }
}
