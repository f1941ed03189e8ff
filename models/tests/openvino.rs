//! OpenVINO by name, which any x86 processor runs, whatever `auto` prefers there; in eight bits where it has VNNI. It needs `atelier models pull` and `atelier models pull
//! onnxruntime-openvino` first, and a process of its own: each library does.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used)]

mod support;

use atelier_models::{
    ModelStore, Provider, ProviderChoice, Refiner, Runtime, Segmenter, SessionOptions,
    provider::Precision, segment::reference::Difference,
};

use support::matte_of_sample;

/// The models folder, and OpenVINO in floating point or in eight bits.
fn openvino(choice: ProviderChoice) -> (ModelStore, Runtime) {
    let store = ModelStore::open(None).unwrap();
    let runtime = Runtime::load(&store, choice).unwrap_or_else(|error| panic!("{error}"));
    (store, runtime)
}

/// How far the matte of a sample is from that of ONNX Runtime's own kernels.
fn apart(runtime: &Runtime, store: &ModelStore, name: &str) -> Difference {
    let open = |runtime: &Runtime| {
        Segmenter::open(runtime, store, name, &SessionOptions::default()).unwrap()
    };
    let network = open(runtime);
    assert_eq!(network.session().provider(), runtime.provider(), "{name}");
    Difference::between(
        &matte_of_sample(&network),
        &matte_of_sample(&open(&runtime.on_cpu())),
    )
}

#[test]
fn mattes_in_floating_point_are_those_of_cpu() {
    let (store, runtime) = openvino(ProviderChoice::Openvino);
    let is_in_32_bits = runtime.provider() == Provider::OpenVino(Precision::F32);
    // In bfloat16, as they are published, the networks are 2.0 and 0.23 levels off here, and 0.55 and 0.08 % of the pixels flip.
    for (name, most_in_bfloat16) in [("u2netp", 0.3), ("u2net", 0.12)] {
        let difference = apart(&runtime, &store, name);
        let (most, most_flipped) = if is_in_32_bits {
            (0.01, 1e-4)
        } else {
            (most_in_bfloat16, 1e-3)
        };
        assert!(difference.mean < most, "{name}: {difference:?}");
        assert!(
            difference.flipped_share < most_flipped,
            "{name}: {difference:?}"
        );
    }
}

#[test]
fn mattes_in_eight_bits_are_nearly_those_in_32_bits() {
    if !std::arch::is_x86_feature_detected!("avx512vnni") {
        // Their sums of two products are cut off at 16 bits.
        println!("skipped: the processor has no AVX-512 VNNI");
        return;
    }
    let (store, runtime) = openvino(ProviderChoice::OpenvinoInt8);
    for name in ["u2netp", "u2net", "isnet-general-use"] {
        let difference = apart(&runtime, &store, name);
        assert!(difference.flipped_share <= 0.003, "{name}: {difference:?}");
        assert!(difference.mean < 1.0, "{name}: {difference:?}");
    }
}

#[test]
fn what_was_not_calibrated_stays_in_floating_point() {
    let (store, runtime) = openvino(ProviderChoice::OpenvinoInt8);
    let (_, in_floating_point) = openvino(ProviderChoice::Openvino);
    let refiner = Refiner::open(&runtime, &store, &SessionOptions::default()).unwrap();
    assert_eq!(refiner.session().provider(), in_floating_point.provider());
}
