#!/usr/bin/env python3
"""Finds what a network's convolutions are quantised with, and writes it for src/quantize.rs.

usage: calibrate.py MODEL SHARE NETWORK.onnx OUT.json PICTURE [PICTURE ...]

MODEL is a name of models.toml, SHARE how many of the values must lie below the limit at most (0 to 1). Needs onnx, onnxruntime, numpy and Pillow. The pictures are scaled and normalised as the
network's row says. README.md tells what is measured and which convolutions are left alone.
"""

import json
import pathlib
import sys
import tomllib

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from PIL import Image

BINS = 4096
# A convolution with fewer outputs is a head, and nothing comes after it that would average its rounding away.
MIN_OUTPUTS = 8
CATALOGUE = pathlib.Path(__file__).parent.parent / "models.toml"


def row_of(name):
    rows = tomllib.loads(CATALOGUE.read_text())["model"]
    return next(row for row in rows if row["name"] == name)


def prepared(path, row):
    side = row["input"]["shape"][2]
    pixels = np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.LANCZOS), float)
    normalised = (pixels / max(pixels.max(), 1e-6) - row["input"]["mean"]) / row["input"]["deviation"]
    return normalised.transpose(2, 0, 1)[None].astype(np.float32)


def convolutions(graph, row):
    """Those that are to calculate in eight bits: pairs of the input's and the weights' name."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    absorbing = {absorb["weights"] for absorb in row.get("absorb", [])}
    pictures = {value.name for value in graph.input}
    # The picture itself, also where it is only brought to another type.
    pictures |= {node.output[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in pictures}
    found = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in shapes:
            continue
        is_head = shapes[node.input[1]][0] < MIN_OUTPUTS
        if node.input[0] not in pictures and node.input[1] not in absorbing and not is_head:
            found.append((node.input[0], node.input[1]))
    return found


class Histograms:
    """How often data are how large, by magnitude, of every tensor."""

    def __init__(self, path, tensors):
        model = onnx.load(path)
        outputs = {output.name for output in model.graph.output}
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self.kind = next(kinds[node.input[1]] for node in model.graph.node if node.op_type == "Conv")
        for tensor in sorted(set(tensors) - outputs):
            model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, self.kind, None))
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.tensors = sorted(set(tensors))

    def run(self, picture, row):
        values = self.session.run(self.tensors, {self.session.get_inputs()[0].name: prepared(picture, row)})
        return zip(self.tensors, values)

    def count(self, pictures, row):
        largest, least = {}, {}
        for picture in pictures:
            for tensor, values in self.run(picture, row):
                largest[tensor] = max(largest.get(tensor, 0.0), float(np.abs(values).max()))
                least[tensor] = min(least.get(tensor, 0.0), float(values.min()))
        counts = {tensor: np.zeros(BINS) for tensor in self.tensors}
        for picture in pictures:
            for tensor, values in self.run(picture, row):
                magnitudes = np.abs(values).astype(np.float32).ravel()
                counts[tensor] += np.histogram(magnitudes, BINS, (0.0, largest[tensor]))[0]
        return largest, least, counts


def limit(largest, counts, levels, share):
    """Where to cut off: the least mean square error of rounding and cutting together, and no more than what that share of the
    values stay below."""
    centers = (np.arange(BINS) + 0.5) / BINS * largest
    # What is zero stays exactly that.
    weights = counts.copy()
    weights[0] = 0
    best, least_error = largest, np.inf
    for candidate in largest * np.geomspace(0.02, 1.0, 120):
        scale = candidate / levels
        rounded = np.clip(np.round(centers / scale), 0, levels) * scale
        error = float(((rounded - centers) ** 2 * weights).sum())
        if error < least_error:
            best, least_error = candidate, error
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() * share))
    common = centers[min(place, BINS - 1)]
    return float(min(best, common))


def main():
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    name, share, path, out, pictures = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]
    row = row_of(name)
    chosen = convolutions(onnx.load(path).graph, row)
    largest, least, counts = Histograms(path, [tensor for tensor, _ in chosen]).count(pictures, row)
    lines = []
    for tensor, weights in chosen:
        signed = least[tensor] < 0
        found = limit(largest[tensor], counts[tensor], 127 if signed else 255, share)
        line = {"weights": weights, "limit": float(f"{found:.4g}")} | ({"signed": True} if signed else {})
        lines.append(json.dumps(line))
    pathlib.Path(out).write_text('{"convolutions": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{len(lines)} convolutions of {name}")


if __name__ == "__main__":
    main()
