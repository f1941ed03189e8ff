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
    let on_cpu = || open_on(&runtime.on_cpu());
    let mut to_try = Some(runtime.clone());
    while let Some(runtime) = to_try {
        let checked = match open_on(&runtime) {
            Ok(network) => check(&network, &on_cpu).map(|()| network),
            Err(error @ (LoadError::Missing { .. } | LoadError::WrongFile { .. })) => {
                return Err(error);
            }
            Err(error) => Err(error.to_string()),
        };
        let reason = match checked {
            Ok(network) => return Ok(network),
            Err(reason) => reason,
        };
        to_try = runtime.in_floating_point();
        let instead = to_try.as_ref().map_or(Provider::Cpu, Runtime::provider);
        tracing::error!(
            model = name,
            provider = runtime.provider().as_str(),
            reason,
            instead = instead.as_str(),
            "the provider does not serve this model, which runs otherwise, more slowly"
        );
    }
    on_cpu()
}
