//! Opening a network by its row: on the provider that was chosen by `auto` only if it gives what `cpu` gives there.

use crate::{LoadError, Model, ModelStore, Provider, Purpose, Runtime};

/// The row of a network that serves a purpose.
///
/// # Errors
/// There is none of that name, or it serves another: it is no `wanted`.
pub(super) fn row<'a>(
    store: &'a ModelStore,
    name: &str,
    purpose: Purpose,
    wanted: &'static str,
) -> Result<&'a Model, LoadError> {
    let catalogue = store.catalogue();
    match catalogue.find(name) {
        Some(model) if model.purpose == purpose => Ok(model),
        Some(model) => Err(LoadError::WrongPurpose {
            name: name.to_owned(),
            wanted,
            summary: model.summary.clone(),
        }),
        None => Err(LoadError::UnknownModel {
            name: name.to_owned(),
            known: catalogue.names_for(purpose).join(", "),
        }),
    }
}

/// Opens a network. Where the provider was chosen by `auto` and does not serve it, or `check` (which may open the same network on
/// `cpu` to compare it with) says what is wrong, it runs in floating point instead where this was eight bits, and on `cpu` where that
/// is no better, and the log says so as an error.
///
/// # Errors
/// As [`Session::open`](crate::Session::open); a file that is missing or another network's is so with every provider.
pub(super) fn open<T>(
    runtime: &Runtime,
    name: &str,
    open_on: impl Fn(&Runtime) -> Result<T, LoadError>,
    check: impl Fn(&T, &dyn Fn() -> Result<T, LoadError>) -> Result<(), String>,
) -> Result<T, LoadError> {
    if !runtime.is_to_be_checked() {
        return open_on(runtime);
    }
    let doubtful = [Some(runtime.clone()), runtime.in_floating_point()];
    let doubtful: Vec<Runtime> = doubtful.into_iter().flatten().collect();
    let on_cpu = runtime.on_cpu();
    first_that_serves(name, &doubtful, &on_cpu, Runtime::provider, open_on, check)
}

/// Opens a network on the first of `doubtful` on which `check` finds nothing wrong, and on `sure` where there is none.
fn first_that_serves<R, T>(
    name: &str,
    doubtful: &[R],
    sure: &R,
    provider_of: impl Fn(&R) -> Provider,
    open_on: impl Fn(&R) -> Result<T, LoadError>,
    check: impl Fn(&T, &dyn Fn() -> Result<T, LoadError>) -> Result<(), String>,
) -> Result<T, LoadError> {
    let open_sure = || open_on(sure);
    for (place, runtime) in doubtful.iter().enumerate() {
        let checked = match open_on(runtime) {
            Ok(network) => check(&network, &open_sure).map(|()| network),
            Err(error @ (LoadError::Missing { .. } | LoadError::WrongFile { .. })) => {
                return Err(error);
            }
            Err(error) => Err(error.to_string()),
        };
        let reason = match checked {
            Ok(network) => return Ok(network),
            Err(reason) => reason,
        };
        let instead = provider_of(doubtful.get(place + 1).unwrap_or(sure));
        tracing::error!(
            model = name,
            provider = provider_of(runtime).as_str(),
            reason,
            instead = instead.as_str(),
            "the provider does not serve this model, which runs otherwise, more slowly"
        );
    }
    open_sure()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        path::PathBuf,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::provider::Precision;

    const INT8: Provider = Provider::OpenVino(Precision::Int8);
    const BF16: Provider = Provider::OpenVino(Precision::Bf16);

    /// What was logged.
    #[derive(Clone, Default)]
    struct Logged(Arc<Mutex<Vec<u8>>>);

    impl Write for Logged {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Logged {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// Opens a network that is its provider's name, on eight bits, bfloat16 or `cpu`: what came of it, on which providers it was opened,
    /// in this order, and the lines of the log.
    fn opened(
        open_on: impl Fn(Provider) -> Result<(), LoadError>,
        check: impl Fn(Provider, &dyn Fn() -> Provider) -> Result<(), String>,
    ) -> (Result<Provider, LoadError>, Vec<Provider>, Vec<String>) {
        let tried = Mutex::new(Vec::new());
        let logged = Logged::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(logged.clone())
            .finish();
        let opened = tracing::subscriber::with_default(subscriber, || {
            first_that_serves(
                "u2netp",
                &[INT8, BF16],
                &Provider::Cpu,
                |provider| *provider,
                |provider| {
                    tried.lock().unwrap().push(*provider);
                    open_on(*provider).map(|()| *provider)
                },
                |provider, sure| check(*provider, &|| sure().unwrap()),
            )
        });
        let bytes = logged.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        let lines = lines.lines().map(str::to_owned).collect();
        (opened, tried.into_inner().unwrap(), lines)
    }

    fn unloadable(reason: &str) -> LoadError {
        LoadError::Unloadable {
            name: "u2netp".to_owned(),
            path: PathBuf::from("/models/u2netp.onnx"),
            reason: reason.to_owned(),
            fix: "pull it".to_owned(),
        }
    }

    fn assert_loud(line: &str, provider: Provider, instead: Provider, reason: &str) {
        let says = |what: String| assert!(line.contains(&what), "{what}: {line}");
        says(" ERROR ".to_owned());
        says("model=\"u2netp\"".to_owned());
        says(format!(" provider=\"{provider}\""));
        says(format!("instead=\"{instead}\""));
        says(format!("reason=\"{reason}\""));
    }

    #[test]
    fn what_serves_is_taken_without_a_word() {
        let (opened, tried, lines) = opened(|_| Ok(()), |_, _| Ok(()));
        assert_eq!(opened.unwrap(), INT8);
        assert_eq!((tried, lines), (vec![INT8], Vec::new()));
    }

    #[test]
    fn eight_bits_that_differ_give_way_to_floating_point_loudly() {
        let check = |provider: Provider, _: &dyn Fn() -> Provider| match provider {
            INT8 => Err("2 % flip".to_owned()),
            _ => Ok(()),
        };
        let (opened, tried, lines) = opened(|_| Ok(()), check);
        assert_eq!((opened.unwrap(), tried), (BF16, vec![INT8, BF16]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_loud(&lines[0], INT8, BF16, "2 % flip");
    }

    #[test]
    fn where_nothing_else_serves_it_is_cpu_and_each_step_is_loud() {
        let open_on = |provider: Provider| match provider {
            INT8 => Err(unloadable("no such operator")),
            _ => Ok(()),
        };
        // The check may ask for the network on `cpu`, and finds another there.
        let check = |provider: Provider, sure: &dyn Fn() -> Provider| {
            let expected = sure();
            (provider == expected)
                .then_some(())
                .ok_or_else(|| format!("it is not that of {expected}"))
        };
        let (opened, tried, lines) = opened(open_on, check);
        assert_eq!(opened.unwrap(), Provider::Cpu);
        assert_eq!(tried, [INT8, BF16, Provider::Cpu, Provider::Cpu]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let reason = unloadable("no such operator").to_string();
        assert_loud(&lines[0], INT8, BF16, &reason);
        assert_loud(&lines[1], BF16, Provider::Cpu, "it is not that of cpu");
    }

    #[test]
    fn a_missing_and_a_wrong_file_are_errors_and_nothing_else_is_tried() {
        let missing = || LoadError::Missing {
            name: "u2netp".to_owned(),
            fix: "pull it".to_owned(),
        };
        let wrong = || LoadError::WrongFile {
            name: "u2netp".to_owned(),
            path: PathBuf::from("/models/u2netp.onnx"),
            expected: "one".to_owned(),
            found: "another".to_owned(),
            fix: "pull it".to_owned(),
        };
        for error in [&missing as &dyn Fn() -> LoadError, &wrong] {
            let (opened, tried, lines) = opened(|_| Err(error()), |_, _| Ok(()));
            assert_eq!(opened.unwrap_err().to_string(), error().to_string());
            assert_eq!((tried, lines), (vec![INT8], Vec::new()));
        }
    }

    #[test]
    fn an_error_of_the_sure_one_is_an_error() {
        let (opened, tried, _) = opened(|_| Err(unloadable("broken")), |_, _| Ok(()));
        assert!(opened.unwrap_err().to_string().contains("broken"));
        assert_eq!(tried, [INT8, BF16, Provider::Cpu]);
    }
}
