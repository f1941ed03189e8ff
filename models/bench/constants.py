#!/usr/bin/env python3
"""Finds the constant channels of a network that are worth absorbing, and prints rows for models.toml.

usage: constants.py NETWORK.onnx PICTURE [PICTURE ...]

Needs onnx, onnxruntime, numpy and Pillow. The pictures are scaled and normalised as U²-Net's are. Looks at every
convolution whose input comes straight from other convolutions (past ReLU, Resize and Concat). A channel is constant if
its least value over all pixels of all pictures is more than ten times its range; it is printed if reading it makes the
convolution's result differ by more than MIN_ERROR of its mean when data and weights are rounded to bfloat16.
See src/absorb.rs for what is done with it.
"""

import math
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from PIL import Image

SIDE_PX = 320
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
MIN_ERROR = 0.002


def prepared(path):
    pixels = np.asarray(Image.open(path).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.LANCZOS), float)
    normalised = (pixels / max(pixels.max(), 1.0) - MEAN) / DEVIATION
    return normalised.transpose(2, 0, 1)[None].astype(np.float32)


class Network:
    def __init__(self, path):
        self.model = onnx.load(path)
        graph = self.model.graph
        self.weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.maker = {output: node for node in graph.node for output in node.output}
        self.readers = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in self.weights]

    def sources(self, tensor):
        """For each channel of a tensor: the convolution that makes it, its output there, and the tensor others may read."""
        node = self.maker.get(tensor)
        if node is None:
            return []
        if node.op_type == "Concat":
            return [source for part in node.input for source in self.sources(part)]
        if node.op_type == "Resize":
            return self.sources(node.input[0])
        if node.op_type == "Relu" and self.maker[node.input[0]].op_type == "Conv":
            convolution = self.maker[node.input[0]]
            return [(convolution, output, tensor) for output in range(len(self.weights[convolution.input[1]]))]
        return []

    def other_readers(self, tensor):
        """Weights of convolutions that read a tensor beside the one that reads it through Concat; None: something else does."""
        found = []
        for node in self.readers[tensor]:
            if node.op_type == "MaxPool":
                below = self.other_readers(node.output[0])
                if below is None:
                    return None
                found += below
            elif node.op_type == "Conv":
                found.append(node.input[1])
            elif node.op_type not in ("Concat", "Resize", "Shape"):
                return None
        return found

    def ranges(self, tensors, pictures):
        """Least and greatest value of every channel."""
        names = {output.name for output in self.model.graph.output}
        for tensor in tensors - names:
            self.model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
        session = onnxruntime.InferenceSession(self.model.SerializeToString(), providers=["CPUExecutionProvider"])
        feed, order = session.get_inputs()[0].name, sorted(tensors)
        found = {}
        for picture in pictures:
            for tensor, values in zip(order, session.run(order, {feed: prepared(picture)})):
                low, high = values[0].min((1, 2)), values[0].max((1, 2))
                before = found.get(tensor, (low, high))
                found[tensor] = np.minimum(low, before[0]), np.maximum(high, before[1])
        return found


def row(network, node, low, high, spread):
    sources = network.sources(node.input[0])
    weights = network.weights[node.input[1]]
    constants = []
    for channel, (maker, made_as, tensor) in enumerate(sources):
        # A bfloat16 keeps eight bits, so half of the last is lost: of the channel, and of the weight that it meets.
        error = high[channel] * 2.0**-9 * np.abs(weights[:, channel]).max() / spread
        if low[channel] > 10 * (high[channel] - low[channel]) and error > MIN_ERROR and not network.other_readers(tensor):
            value = math.floor(low[channel] * 4 - 1) / 4
            constants.append((channel, value, maker.input[2], made_as))
    carriers = [
        (channel, source, network.other_readers(source[2]))
        for channel, source in enumerate(sources)
        if high[channel] == 0 and network.other_readers(source[2]) is not None
    ]
    if not constants:
        return
    print(f'# {node.name}\n[[model.absorb]]\nweights = "{node.input[1]}"\nbias = "{node.input[2]}"\nconstants = [')
    for channel, value, bias, made_as in constants:
        print(f'    {{ channel = {channel}, value = {value}, made_by_bias = "{bias}", made_as = {made_as} }},')
    print("]")
    if not carriers:
        print("# and no channel that is always 0 to carry them")
        return
    channel, (maker, made_as, _), readers = min(carriers, key=lambda carrier: (len(carrier[2]), carrier[0]))
    made = f'made_by_weights = "{maker.input[1]}", made_by_bias = "{maker.input[2]}", made_as = {made_as}'
    also = ", ".join(f'"{name}"' for name in readers)
    print(f"carrier = {{ channel = {channel}, {made}, also_read_by = [{also}] }}\n")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    network = Network(sys.argv[1])
    looked_at = [node for node in network.convolutions if len(node.input) == 3 and network.sources(node.input[0])]
    results = {node.name: network.readers[node.output[0]][0].output[0] for node in looked_at}
    ranges = network.ranges({node.input[0] for node in looked_at} | set(results.values()), sys.argv[2:])
    for node in looked_at:
        low, high = ranges[node.input[0]]
        result_low, result_high = ranges[results[node.name]]
        row(network, node, low, high, max(float(np.mean(result_high - result_low)), 1e-9))


if __name__ == "__main__":
    main()
