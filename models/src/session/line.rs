//! The copies of a network, and the runs that wait for one.
//!
//! Runs that wait at the same time share one run of the network, up to a limit; none waits for another to come. A shared run that
//! fails is made again in halves, so that what one of them cannot do fails that one alone.
//!
//! Invariants: each run is answered once, by its own thread or by one that took it along; a copy that was lent comes back, and so do
//! the runs that a panic took along.

use std::collections::HashMap;

use parking_lot::{Condvar, Mutex};

/// Copies `C` of a network; runs take `I` and give `O`.
pub(super) struct Line<C, I, O> {
    state: Mutex<State<C, I, O>>,
    changed: Condvar,
    /// Most runs that are made one.
    most: usize,
}

struct State<C, I, O> {
    /// Copies that nobody uses.
    idle: Vec<C>,
    /// Runs that nobody has begun, oldest first.
    waiting: Vec<Waiting<I>>,
    /// What other threads found for runs whose own has not taken it yet.
    answers: HashMap<u64, O>,
    next_ticket: u64,
}

struct Waiting<I> {
    ticket: u64,
    input: I,
    /// Most runs that it may be one of, itself counted: less after each failure.
    most: usize,
}

/// A copy at work; it goes back when it is dropped, also by a panic.
pub(super) struct Lent<'a, C, I, O> {
    line: &'a Line<C, I, O>,
    pub copy: Option<C>,
}

/// A copy at work on several runs. What has no answer when it is dropped waits again, for smaller company; a run whose own thread
/// panics is given up.
struct Going<'a, C, I, O> {
    line: &'a Line<C, I, O>,
    copy: Option<C>,
    runs: Vec<Waiting<I>>,
    /// Whose thread works.
    leader: u64,
}

impl<C, I: Clone, O> Line<C, I, O> {
    /// A line for these copies, which makes at most so many runs one; 0 counts as 1.
    pub fn new(copies: Vec<C>, most: usize) -> Self {
        Self {
            state: Mutex::new(State {
                idle: copies,
                waiting: Vec::new(),
                answers: HashMap::new(),
                next_ticket: 0,
            }),
            changed: Condvar::new(),
            most: most.max(1),
        }
    }

    /// Most runs that are made one.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A copy that nobody uses, for a run of its own; waits for one if need be.
    pub fn lend(&self) -> Lent<'_, C, I, O> {
        let mut state = self.state.lock();
        self.changed
            .wait_while(&mut state, |state| state.idle.is_empty());
        Lent {
            line: self,
            copy: state.idle.pop(),
        }
    }

    /// What `work` gives of `input`, together with others that wait and for which `fits` says that they go with it. `work` gets a
    /// copy and one or several inputs, and gives as many answers, in their order.
    ///
    /// # Errors
    /// As `work` with this input alone.
    ///
    /// # Panics
    /// `work` gives more or fewer answers, or panics.
    pub fn run<E>(
        &self,
        input: I,
        fits: impl Fn(&I, &I) -> bool,
        mut work: impl FnMut(&mut C, &[I]) -> Result<Vec<O>, E>,
    ) -> Result<O, E> {
        let mut state = self.state.lock();
        let ticket = state.enter(input, self.most);
        loop {
            self.changed
                .wait_while(&mut state, |state| !state.concerns(ticket));
            if let Some(answer) = state.answers.remove(&ticket) {
                return Ok(answer);
            }
            let mut going = Going {
                line: self,
                copy: state.idle.pop(),
                runs: state.leave(ticket, &fits),
                leader: ticket,
            };
            drop(state);
            let inputs: Vec<I> = going.runs.iter().map(|run| run.input.clone()).collect();
            let done = going.copy.as_mut().map(|copy| work(copy, &inputs));
            match done {
                Some(Ok(answers)) => {
                    assert_eq!(answers.len(), inputs.len(), "one answer for each run");
                    going.answer(answers);
                }
                Some(Err(error)) if inputs.len() == 1 => {
                    going.runs.clear();
                    return Err(error);
                }
                // Those that went together go in smaller company.
                Some(Err(_)) | None => {}
            }
            drop(going);
            state = self.state.lock();
        }
    }
}

impl<C, I, O> State<C, I, O> {
    fn enter(&mut self, input: I, most: usize) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push(Waiting {
            ticket,
            input,
            most,
        });
        ticket
    }

    /// Whether the thread of that run has something to do: take its answer, or begin.
    fn concerns(&self, ticket: u64) -> bool {
        let waits = || self.waiting.iter().any(|run| run.ticket == ticket);
        self.answers.contains_key(&ticket) || (!self.idle.is_empty() && waits())
    }

    /// Takes out the run of that ticket and, oldest first, those that go with it.
    fn leave(&mut self, ticket: u64, fits: impl Fn(&I, &I) -> bool) -> Vec<Waiting<I>> {
        let Some(place) = self.waiting.iter().position(|run| run.ticket == ticket) else {
            return Vec::new();
        };
        let mut most = self.waiting[place].most;
        let mut together = vec![self.waiting.remove(place)];
        let mut place = 0;
        while place < self.waiting.len() && together.len() < most {
            let other = &self.waiting[place];
            if other.most > together.len() && fits(&together[0].input, &other.input) {
                most = most.min(other.most);
                together.push(self.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        together
    }
}

impl<C, I, O> Going<'_, C, I, O> {
    /// Hands each run its answer.
    fn answer(&mut self, answers: Vec<O>) {
        let tickets = self.runs.drain(..).map(|run| run.ticket);
        self.line.state.lock().answers.extend(tickets.zip(answers));
    }
}

impl<C, I, O> Drop for Going<'_, C, I, O> {
    fn drop(&mut self) {
        let mut state = self.line.state.lock();
        state.idle.extend(self.copy.take());
        let most = self.runs.len().div_ceil(2);
        let is_given_up = |run: &Waiting<I>| std::thread::panicking() && run.ticket == self.leader;
        for run in self.runs.drain(..).filter(|run| !is_given_up(run)) {
            state.waiting.push(Waiting { most, ..run });
        }
        drop(state);
        self.line.changed.notify_all();
    }
}

impl<C, I, O> Drop for Lent<'_, C, I, O> {
    fn drop(&mut self) {
        self.line.state.lock().idle.extend(self.copy.take());
        self.line.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    type Numbers = Line<(), u32, u32>;

    /// Waits until so many runs wait in the line.
    fn until_waiting(line: &Numbers, count: usize) {
        while line.state.lock().waiting.len() < count {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends these numbers into the line while its only copy is lent, so that they wait for each other; answers with what came of each
    /// and of how many runs were made one, in order.
    fn together(
        line: &Numbers,
        numbers: &[u32],
        work: impl Fn(&[u32]) -> Result<Vec<u32>, String> + Sync,
    ) -> (Vec<Result<u32, String>>, Vec<usize>) {
        let sizes = Mutex::new(Vec::new());
        let results = thread::scope(|scope| {
            let lent = line.lend();
            let mut runs = Vec::new();
            for (place, number) in numbers.iter().enumerate() {
                let (sizes, work) = (&sizes, &work);
                runs.push(scope.spawn(move || {
                    line.run(
                        *number,
                        |_, _| true,
                        |(), inputs: &[u32]| {
                            sizes.lock().push(inputs.len());
                            work(inputs)
                        },
                    )
                }));
                until_waiting(line, place + 1);
            }
            drop(lent);
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        (results, sizes.into_inner())
    }

    fn doubled(inputs: &[u32]) -> Result<Vec<u32>, String> {
        Ok(inputs.iter().map(|input| input * 2).collect())
    }

    #[test]
    fn what_waits_at_the_same_time_goes_together_and_each_gets_its_own() {
        let line = Line::new(vec![()], 4);
        let (results, sizes) = together(&line, &[1, 2, 3, 4, 5], doubled);
        assert_eq!(results, [2, 4, 6, 8, 10].map(Ok));
        assert_eq!(sizes.iter().sum::<usize>(), 5);
        assert_eq!(sizes.iter().max(), Some(&4), "{sizes:?}");
        assert!(line.state.lock().answers.is_empty());
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_one_at_a_time_stays_so() {
        let line = Line::new(vec![()], 4);
        let alone = line.run(7, |_, _| true, |(), inputs: &[u32]| doubled(inputs));
        assert_eq!(alone, Ok(14));
        let (results, sizes) = together(&Line::new(vec![()], 0), &[1, 2, 3], doubled);
        assert_eq!((results, sizes), ([2, 4, 6].map(Ok).to_vec(), vec![1; 3]));
    }

    #[test]
    fn one_that_fails_fails_alone() {
        let line = Line::new(vec![()], 8);
        let numbers: Vec<u32> = (0..8).collect();
        let (results, sizes) = together(&line, &numbers, |inputs| {
            if inputs.contains(&5) {
                return Err("no five".to_owned());
            }
            doubled(inputs)
        });
        for (number, result) in numbers.iter().zip(results) {
            let expected = if *number == 5 {
                Err("no five".to_owned())
            } else {
                Ok(number * 2)
            };
            assert_eq!(result, expected, "{number}");
        }
        assert_eq!(sizes[0], 8);
        assert!(sizes.len() <= 8, "halves, not each alone: {sizes:?}");
    }

    #[test]
    fn only_what_fits_goes_together() {
        let line = Line::new(vec![()], 4);
        let mixed = Mutex::new(0);
        let lent = line.lend();
        thread::scope(|scope| {
            for (place, number) in [1, 2, 3, 4].into_iter().enumerate() {
                let (line, mixed) = (&line, &mixed);
                scope.spawn(move || {
                    let is_like = |one: &u32, other: &u32| one % 2 == other % 2;
                    line.run(number, is_like, |(), inputs: &[u32]| {
                        *mixed.lock() +=
                            usize::from(inputs.iter().any(|input| input % 2 != inputs[0] % 2));
                        doubled(inputs)
                    })
                    .unwrap();
                });
                until_waiting(line, place + 1);
            }
            drop(lent);
        });
        assert_eq!(mixed.into_inner(), 0);
    }

    #[test]
    fn a_panic_keeps_nobody_waiting() {
        let line = Line::new(vec![()], 4);
        let panics = AtomicUsize::new(0);
        let lent = line.lend();
        let outcomes: Vec<bool> = thread::scope(|scope| {
            let mut runs = Vec::new();
            for (place, number) in [1, 2, 3].into_iter().enumerate() {
                let (line, panics) = (&line, &panics);
                runs.push(scope.spawn(move || {
                    line.run(
                        number,
                        |_, _| true,
                        |(), inputs: &[u32]| {
                            assert!(
                                panics.fetch_add(1, Ordering::Relaxed) > 0,
                                "the first of all"
                            );
                            doubled(inputs)
                        },
                    )
                }));
                until_waiting(line, place + 1);
            }
            drop(lent);
            runs.into_iter()
                .map(|run| run.join().is_ok_and(|answer| answer.is_ok()))
                .collect()
        });
        assert_eq!(outcomes.iter().filter(|is_well| **is_well).count(), 2);
        let after = line.run(9, |_, _| true, |(), inputs: &[u32]| doubled(inputs));
        assert_eq!(after, Ok(18));
        assert!(line.state.lock().waiting.is_empty());
    }

    #[test]
    fn as_many_copies_work_beside_each_other_as_there_are() {
        let line = Line::new(vec![(), ()], 1);
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for number in [1, 2] {
                let (line, both) = (&line, &both);
                scope.spawn(move || {
                    line.run(
                        number,
                        |_, _| true,
                        |(), inputs: &[u32]| {
                            both.wait();
                            doubled(inputs)
                        },
                    )
                    .unwrap();
                });
            }
        });
    }
}
