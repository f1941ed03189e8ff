//! What calculates the networks: ONNX Runtime's own kernels, OpenVINO's, or a graphics card.
//!
//! A process has one provider, because each comes with a library of its own and ONNX Runtime allows one in a process.

pub(crate) mod card;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the operator asks for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ProviderChoice {
    /// CUDA where the machine has a driver for it and its library was pulled; else OpenVINO, in eight bits where the processor
    /// calculates in them (AVX-512 VNNI, AMX), in bfloat16 where that is fast (AMX, AMD's with AVX-512 BF16); each only for networks
    /// whose mattes pass the check against the reference; ONNX Runtime's own kernels otherwise.
    #[default]
    Auto,
    /// ONNX Runtime's own kernels.
    Cpu,
    /// OpenVINO: bfloat16 where the processor is fast in it, 32-bit floating point otherwise.
    Openvino,
    /// The same, and in eight bits the networks that were calibrated for it.
    #[serde(rename = "openvino-int8")]
    OpenvinoInt8,
    /// A graphics card of NVIDIA's, by CUDA.
    Cuda,
    /// The same by TensorRT, which compiles each network for the card.
    Tensorrt,
}

/// What calculates the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// ONNX Runtime's own kernels, in 32-bit floating point.
    Cpu,
    /// OpenVINO on the processor.
    OpenVino(Precision),
    /// A graphics card of NVIDIA's.
    Cuda,
    /// The same, with networks that TensorRT compiled for it.
    TensorRt,
}

/// What OpenVINO calculates in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// bfloat16 where that is faster.
    Bf16,
    /// Eight bits in the convolutions that were calibrated for it, and bfloat16 or 32 bits in the rest.
    Int8,
}

impl Precision {
    /// The name that OpenVINO's `INFERENCE_PRECISION_HINT` takes.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            // What is quantised calculates in eight bits by itself.
            Self::Int8 if is_fast_in_bf16() => "bf16",
            Self::Int8 => "f32",
        }
    }
}

impl Provider {
    /// What `auto` prefers of this processor's. In 32 bits OpenVINO gains little over ONNX Runtime's kernels.
    pub fn best_here() -> Self {
        if calculates_in_eight_bits() {
            Self::OpenVino(Precision::Int8)
        } else if is_fast_in_bf16() {
            Self::OpenVino(Precision::Bf16)
        } else {
            Self::Cpu
        }
    }

    /// What OpenVINO does on this processor.
    pub(crate) fn openvino_here() -> Self {
        Self::OpenVino(if is_fast_in_bf16() {
            Precision::Bf16
        } else {
            Precision::F32
        })
    }

    /// The name in logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::OpenVino(Precision::F32) => "openvino-f32",
            Self::OpenVino(Precision::Bf16) => "openvino-bf16",
            Self::OpenVino(Precision::Int8) => "openvino-int8",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// The catalogue's name of the library that has it.
    pub fn library(self) -> &'static str {
        match self {
            Self::Cpu => "onnxruntime",
            Self::OpenVino(_) => "onnxruntime-openvino",
            Self::Cuda | Self::TensorRt => "onnxruntime-gpu",
        }
    }

    /// Whether it is a graphics card.
    pub fn is_a_card(self) -> bool {
        matches!(self, Self::Cuda | Self::TensorRt)
    }

    /// How many pictures a network should take in one run where `waiting` may wait for it: on a processor more than one gain nothing,
    /// and TensorRT compiles a network for one size of batch.
    pub fn best_batch(self, waiting: usize) -> usize {
        match self {
            Self::Cuda => waiting,
            Self::Cpu | Self::OpenVino(_) | Self::TensorRt => 1,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether the processor calculates faster in bfloat16 than in 32 bits: where it has AMX, and AMD's with AVX-512 BF16. Intel's give
/// VDPBF16PS half the rate of a multiplication in 32 bits (uops.info), so that those whose AMX is missing, as in many virtual machines,
/// take 1.5 to 1.8 times as long in bfloat16.
fn is_fast_in_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let processor = raw_cpuid::CpuId::new();
        let features = processor.get_extended_feature_info();
        let is_amd = processor.get_vendor_info();
        let is_amd = is_amd.is_some_and(|vendor| vendor.as_str() == "AuthenticAMD");
        features.is_some_and(|features| features.has_amx_bf16())
            || (is_amd && std::arch::is_x86_feature_detected!("avx512bf16"))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether the processor multiplies bytes and adds them up in one instruction. Those with AMX do that too.
fn calculates_in_eight_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;

    #[test]
    fn every_provider_has_its_library_in_the_catalogue() {
        let catalogue = Catalogue::builtin().unwrap();
        for provider in [
            Provider::Cpu,
            Provider::best_here(),
            Provider::openvino_here(),
            Provider::Cuda,
            Provider::TensorRt,
        ] {
            assert!(catalogue.find(provider.library()).is_some(), "{provider}");
        }
    }

    #[test]
    fn choices_are_read_by_name() {
        let read = |text: &str| serde_json::from_str::<ProviderChoice>(text);
        assert_eq!(read(r#""openvino""#).unwrap(), ProviderChoice::Openvino);
        assert_eq!(
            read(r#""openvino-int8""#).unwrap(),
            ProviderChoice::OpenvinoInt8
        );
        assert_eq!(read(r#""cuda""#).unwrap(), ProviderChoice::Cuda);
        assert_eq!(read(r#""tensorrt""#).unwrap(), ProviderChoice::Tensorrt);
        let message = read(r#""rocm""#).unwrap_err().to_string();
        assert!(
            message.contains("`auto`, `cpu`, `openvino`, `openvino-int8`, `cuda`, `tensorrt`"),
            "{message}"
        );
    }
}
