//! What the adapters on a local disk share: free space, and telling a full disk from any other fault.

use std::{io, path::Path};

/// Bytes that this user may still write on the file system of `path`.
///
/// # Errors
/// What the system says.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let state = rustix::fs::statvfs(path)?;
    Ok(state.f_bavail.saturating_mul(state.f_frsize))
}

/// Whether `error` says that no space is left, or no quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why `needed_bytes` more would leave less than `min_free_bytes` free; `None` where there is room.
///
/// # Errors
/// What the system says.
pub(crate) fn lack_of_room(
    path: &Path,
    needed_bytes: u64,
    min_free_bytes: u64,
) -> io::Result<Option<String>> {
    let free = free_bytes(path)?;
    let wanted = min_free_bytes.saturating_add(needed_bytes);
    Ok((free < wanted).then(|| {
        format!("{free} bytes are free, {needed_bytes} are needed and {min_free_bytes} (`min_free_bytes`) stay reserved")
    }))
}
