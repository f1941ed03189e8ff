//! What a graphics card needs besides ONNX Runtime's library, and what of it is not here.
//!
//! Only ONNX Runtime knows whether a card can be used; this says why it cannot, and whether it is worth trying.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::Provider;

/// The driver's own library.
const DRIVER: &str = "libcuda.so.1";

/// CUDA 12 and cuDNN 9, as `readelf -d libonnxruntime_providers_cuda.so` lists them.
const CUDA: [&str; 6] = [
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcurand.so.10",
    "libcufft.so.11",
    "libcudnn.so.9",
];

/// TensorRT 10, as `readelf -d libonnxruntime_providers_tensorrt.so` lists it.
const TENSORRT: [&str; 2] = ["libnvinfer.so.10", "libnvonnxparser.so.10"];

/// Where the linker remembers what it found in its folders.
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// Whether the machine has the driver of a card.
pub(crate) fn driver_is_here() -> bool {
    Linker::of_this_process().finds(DRIVER)
}

/// What `provider` needs and the linker does not find, and what to do about it.
pub(crate) fn what_is_missing(provider: Provider) -> String {
    Linker::of_this_process().what_is_missing(provider)
}

/// The places in which the dynamic linker looks.
struct Linker {
    folders: Vec<PathBuf>,
    /// The names of libraries in other folders stand in it.
    cache: Vec<u8>,
}

impl Linker {
    fn of_this_process() -> Self {
        let set = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = env::split_paths(&set).filter(|folder| !folder.as_os_str().is_empty());
        Self {
            folders: folders.chain(["/lib".into(), "/usr/lib".into()]).collect(),
            cache: fs::read(LINKER_CACHE).unwrap_or_default(),
        }
    }

    fn finds(&self, library: &str) -> bool {
        let is_in = |folder: &PathBuf| Path::new(folder).join(library).exists();
        // Each name ends with a zero, so that `libcuda.so.1` is not found in `libcuda.so.12`.
        let entry = [b"/", library.as_bytes(), b"\0"].concat();
        let is_cached = || self.cache.windows(entry.len()).any(|bytes| bytes == entry);
        self.folders.iter().any(is_in) || is_cached()
    }

    fn what_is_missing(&self, provider: Provider) -> String {
        let lacks = |libraries: &[&str]| -> Option<String> {
            let missing = libraries.iter().filter(|library| !self.finds(library));
            let missing: Vec<&str> = missing.copied().collect();
            (!missing.is_empty()).then(|| missing.join(", "))
        };
        let mut missing = Vec::new();
        if let Some(driver) = lacks(&[DRIVER]) {
            missing.push(format!(
                "there is no NVIDIA driver ({driver}): install it, or give the container the machine's cards"
            ));
        }
        if let Some(libraries) = lacks(&CUDA) {
            missing.push(format!(
                "of CUDA 12 and cuDNN 9 the linker does not find {libraries}: install them, or name their folders in LD_LIBRARY_PATH"
            ));
        }
        if provider == Provider::TensorRt
            && let Some(libraries) = lacks(&TENSORRT)
        {
            missing.push(format!(
                "of TensorRT 10 it does not find {libraries}: install it, or set models.provider to \"cuda\""
            ));
        }
        if missing.is_empty() {
            return "driver and libraries are here: see `nvidia-smi` for whether the card works, and whether the driver is as new as CUDA 12 \
                    needs (525)"
                .to_owned();
        }
        missing.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linker(folder: &Path, cached: &[&str]) -> Linker {
        let entries = cached.iter().map(|library| format!("/opt/{library}\0"));
        Linker {
            folders: vec![folder.to_owned()],
            cache: entries.collect::<String>().into_bytes(),
        }
    }

    #[test]
    fn libraries_are_found_in_folders_and_in_the_linkers_cache_by_their_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libcudnn.so.9"), b"").unwrap();
        let linker = linker(folder.path(), &["libcuda.so.12", "libcudart.so.12"]);
        assert!(linker.finds("libcudnn.so.9") && linker.finds("libcudart.so.12"));
        assert!(!linker.finds(DRIVER) && !linker.finds("cudart.so.12"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let nothing = linker(folder.path(), &[]);
        let text = nothing.what_is_missing(Provider::Cuda);
        assert!(
            text.contains("no NVIDIA driver (libcuda.so.1): install it"),
            "{text}"
        );
        assert!(
            text.contains("libcublasLt.so.12") && text.contains("LD_LIBRARY_PATH"),
            "{text}"
        );
        assert!(!text.contains("TensorRT"), "{text}");

        let mut here: Vec<&str> = CUDA.to_vec();
        here.push(DRIVER);
        let text = linker(folder.path(), &here).what_is_missing(Provider::TensorRt);
        assert!(
            text.starts_with("of TensorRT 10 it does not find libnvinfer.so.10"),
            "{text}"
        );
        let text = linker(folder.path(), &here).what_is_missing(Provider::Cuda);
        assert!(text.contains("nvidia-smi"), "{text}");
    }
}
