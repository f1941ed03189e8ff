//! Small weights and labels that no package ships: kept in `weights/` and built into the binary.

/// ImageNet's 1000 labels, in the order of `efficientnet_lite0`'s `probabilities`.
const IMAGENET_LABELS: &str = include_str!("../weights/labels_imagenet1000.txt");

/// COCO's 90 ids, in the order of `efficientdet_lite0`'s scores; `???` marks an id that no object has.
const COCO_LABELS: &str = include_str!("../weights/labels_coco90_efficientdet.txt");

/// The bytes of a file in `weights/`.
pub fn weights(file: &str) -> Option<&'static [u8]> {
    match file {
        "efficientnet_lite0.onnx" => Some(include_bytes!("../weights/efficientnet_lite0.onnx")),
        "efficientdet_lite0.onnx" => Some(include_bytes!("../weights/efficientdet_lite0.onnx")),
        "pose_landmarks33.onnx" => Some(include_bytes!("../weights/pose_landmarks33.onnx")),
        "refiner.onnx" => Some(include_bytes!("../weights/refiner.onnx")),
        _ => None,
    }
}

/// ImageNet's 1000 labels in the network's order.
pub fn imagenet_labels() -> Vec<&'static str> {
    IMAGENET_LABELS.lines().collect()
}

/// COCO's 90 ids in the network's order.
pub fn coco_labels() -> Vec<&'static str> {
    COCO_LABELS.lines().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_label_for_every_output() {
        assert_eq!(imagenet_labels().len(), 1000);
        assert_eq!(coco_labels().len(), 90);
    }
}
