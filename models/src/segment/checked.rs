//! A network on the provider that was chosen by `auto`, if it gives what `cpu` gives there.

use crate::{LoadError, Runtime};

/// Opens a network. Where the provider was chosen by `auto` and does not serve it, or `check` (which compares it with the same
/// network on `cpu`, given second) says what is wrong, it runs on `cpu`, and the log says so as an error.
pub(super) fn open<T>(
    runtime: &Runtime,
    name: &str,
    open_on: impl Fn(&Runtime) -> Result<T, LoadError>,
    check: impl Fn(&T, &T) -> Result<(), String>,
) -> Result<T, LoadError> {
    if !runtime.is_to_be_checked() {
        return open_on(runtime);
    }
    let on_cpu = open_on(&runtime.on_cpu())?;
    let checked = open_on(runtime)
        .map_err(|error| error.to_string())
        .and_then(|network| check(&network, &on_cpu).map(|()| network));
    Ok(checked.unwrap_or_else(|reason| {
        tracing::error!(
            model = name,
            provider = runtime.provider().as_str(),
            reason,
            "the provider does not serve this model, which runs on `cpu`, more slowly"
        );
        on_cpu
    }))
}
