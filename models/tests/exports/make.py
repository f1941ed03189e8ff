#!/usr/bin/env python3
"""Writes tiny networks with the inputs and outputs of the published ones, for `tests/exports.rs`. Needs `onnx`.

usage: make.py (writes beside itself)

Names, shapes and open dimensions are those of the real exports; the weights are chosen so that what has to come out is known. Each
takes its row's mean and deviation back off and gives

    shade = 0.299 red² + 0.587 green² + 0.114 blue²        (colours 0 to 1)

which a wrong order of the colours, a wrong scaling, mean or deviation changes. The square is there because a mean that is wrong
would vanish when the output is stretched. What is made of it:

    u2net, u2net-open, isnet, anime, rmbg, ben    the shade
    birefnet                                      8 · (shade − 0.5), of which the row takes the sigmoid
    cloth                                         four classes: 0.5, the shade, −1, 0
    folded                                        the shade minus its mean over everything, all pictures of a run together
    vitmatte, image-trimap                        shade · 4 · trimap · (1 − trimap): the shade where the trimap is unknown

The last two also pool by 32 and enlarge again, which fails unless both sides are multiples of 32.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
LUMA = [0.299, 0.587, 0.114]


class Network:
    """Nodes and weights, collected."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, values):
        array = np.asarray(values, np.float32 if not isinstance(values, np.ndarray) else values.dtype)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def shade(self, picture, mean, deviation):
        """The shade of a picture that was brought to mean and deviation."""
        restore = np.zeros((3, 3, 1, 1), np.float32)
        for color in range(3):
            restore[color, color] = deviation[color]
        self.weight("deviation", restore)
        self.weight("mean", mean)
        self.weight("luma", np.asarray(LUMA, np.float32).reshape(1, 3, 1, 1))
        colors = self.node("Conv", [picture, "deviation", "mean"], "colors")
        squares = self.node("Mul", [colors, colors], "squares")
        return self.node("Conv", [squares, "luma"], "shade")

    def save(self, name, inputs, outputs):
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes,
            name,
            [value(*one) for one in inputs],
            [value(*one) for one in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, HERE / f"{name}.onnx")


def shade_network(name, picture, shape, outputs, mean, deviation):
    """A network whose outputs all are the shade; the published ones have several, and the first counts."""
    network = Network()
    shade = network.shade(picture, mean, deviation)
    for output, _ in outputs[:1]:
        network.node("Identity", [shade], output)
    for output, _ in outputs[1:]:
        # The others are there to be left alone.
        network.node("Neg", [shade], output)
    network.save(name, [(picture, shape)], outputs)


def birefnet():
    network = Network()
    shade = network.shade("input_image", *IMAGENET)
    half, eight = network.weight("half", [0.5]), network.weight("eight", [8.0])
    centred = network.node("Sub", [shade, half], "centred")
    network.node("Mul", [centred, eight], "output_image")
    network.save("birefnet", [("input_image", ["batch", 3, 1024, 1024])], [("output_image", ["batch", 1, 1024, 1024])])


def cloth():
    network = Network()
    shade = network.shade("input", *IMAGENET)
    spread = network.weight("spread", np.asarray([0, 1, 0, 0], np.float32).reshape(4, 1, 1, 1))
    classes = network.weight("classes", [0.5, 0.0, -1.0, 0.0])
    network.node("Conv", [shade, spread, classes], "output")
    network.save("cloth", [("input", ["batch", 3, 768, 768])], [("output", ["batch", 4, 768, 768])])


def folded():
    network = Network()
    shade = network.shade("input.1", *IMAGENET)
    mean = network.node("ReduceMean", [shade], "everything", axes=[0, 1, 2, 3], keepdims=1)
    network.node("Sub", [shade, mean], "1959")
    network.save("folded", [("input.1", [1, 3, 320, 320])], [("1959", [1, 1, 320, 320])])


def within_trimap(network, shade, trimap, output):
    """The shade where the trimap is one half."""
    one, four = network.weight("one", [1.0]), network.weight("four", [4.0])
    rest = network.node("Sub", [one, trimap], "rest")
    both = network.node("Mul", [trimap, rest], "both")
    unknown = network.node("Mul", [both, four], "unknown")
    found = network.node("Mul", [shade, unknown], "found")
    pooled = network.node("AveragePool", [found], "pooled", kernel_shape=[32, 32], strides=[32, 32])
    scales = network.weight("scales", [1.0, 1.0, 32.0, 32.0])
    large = network.node("Resize", [pooled, "", scales], "large", mode="nearest")
    nothing = network.node("Mul", [large, network.weight("zero", [0.0])], "nothing")
    network.node("Add", [found, nothing], output)


def vitmatte():
    network = Network()
    starts = lambda name, at: network.weight(name, np.asarray([at], np.int64))
    channels = starts("channels", 1)
    first, fourth, end = starts("first", 0), starts("fourth", 3), starts("end", 4)
    picture = network.node("Slice", ["pixel_values", first, fourth, channels], "picture")
    trimap = network.node("Slice", ["pixel_values", fourth, end, channels], "trimap")
    shade = network.shade(picture, [0.5] * 3, [0.5] * 3)
    within_trimap(network, shade, trimap, "alphas")
    open_shape = lambda channels: ["batch_size", channels, "height", "width"]
    network.save("vitmatte", [("pixel_values", open_shape("num_channels"))], [("alphas", open_shape(1))])


def image_trimap(name, more):
    network = Network()
    shade = network.shade("image", *IMAGENET)
    within_trimap(network, shade, "trimap", "alpha")
    open_shape = lambda channels: ["batch", channels, "height", "width"]
    inputs = [("trimap", open_shape(1)), ("image", open_shape(3))] + [(one, open_shape(1)) for one in more]
    network.save(name, inputs, [("alpha", open_shape(1))])


def main():
    side = lambda batch, side: [batch, 3, side, side]
    matte = lambda batch, side: [batch, 1, side, side]
    u2net = [(str(name), matte(1, 320)) for name in range(1959, 1966)]
    shade_network("u2net", "input.1", side(1, 320), u2net, *IMAGENET)
    shade_network("u2net-open", "input.1", side("batch_size", 320), [("1959", matte("batch_size", 320))], *IMAGENET)
    isnet = [("d0", matte("batch", 1024)), ("d1", matte("batch", 1024))]
    shade_network("isnet", "img", side("batch", 1024), isnet, [0.5] * 3, [1.0] * 3)
    shade_network("anime", "img", side("batch", 1024), [("mask", matte("batch", 1024))], IMAGENET[0], [1.0] * 3)
    rmbg = ["batch_size", 3, "height", "width"]
    shade_network("rmbg", "pixel_values", rmbg, [("alphas", ["batch_size", 1, "height", "width"])], *IMAGENET)
    shade_network("ben", "input", side("batch", 1024), [("output", matte("batch", 1024))], [0.5] * 3, [1.0] * 3)
    birefnet()
    cloth()
    folded()
    vitmatte()
    image_trimap("image-trimap", [])
    image_trimap("three-inputs", ["hint"])


if __name__ == "__main__":
    main()
