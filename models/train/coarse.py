"""Runs the segmentation networks' ONNX files in PyTorch, so that a GPU makes the coarse mattes of many thousand scenes.

Only the operators of U²-Net, U²-Netp and IS-Net are known; another one is an error.
"""

import onnx
import torch
from onnx import numpy_helper, shape_inference
from torch.nn import functional as F

# What only calculates sizes for `Resize`: the size is taken from the tensor that the result is joined with.
SIZES = {"Shape", "Gather", "Unsqueeze", "Slice", "Cast", "Constant"}


def _in_order(graph):
    """The nodes, each after those that make its inputs: ONNX Runtime does not ask files for that order."""
    known = {w.name for w in graph.initializer} | {i.name for i in graph.input} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise ValueError(f"the network's nodes wait for each other: {waiting[0].name}")
        for node in ready:
            known.update(node.output)
        ordered += ready
        waiting = [node for node in waiting if not known.issuperset(node.output)]
    return ordered


class Network:
    """A network of one input; `run` answers with its first output."""

    def __init__(self, path, device):
        graph = shape_inference.infer_shapes(onnx.load(str(path)), data_prop=True).graph
        self.weights = {w.name: torch.from_numpy(numpy_helper.to_array(w).copy()).to(device, torch.bfloat16) for w in graph.initializer}
        self.nodes, self.input, self.output = _in_order(graph), graph.input[0].name, graph.output[0].name
        self.attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in self.nodes]
        self.sizes = {
            value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim][2:] for value in graph.value_info
        }
        self.joined_with = self._resized_like()

    def _resized_like(self):
        """For each `Resize` of no fixed size, the tensor whose size its result takes: the one whose `Shape` its sizes come from."""
        made_by = {name: node for node in self.nodes for name in node.output}
        found = {}
        for node in self.nodes:
            if node.op_type != "Resize" or all(self.sizes.get(node.output[0], [0])):
                continue
            waiting, shapes = [node.input[3]], []
            while waiting:
                maker = made_by.get(waiting.pop())
                if maker is None:
                    continue
                if maker.op_type == "Shape":
                    shapes.append(maker.input[0])
                elif maker.op_type in SIZES | {"Concat"}:
                    waiting.extend(maker.input)
            like = [name for name in shapes if self._source(made_by, name) != self._source(made_by, node.input[0])]
            found[node.output[0]] = like[0]
        return found

    @staticmethod
    def _source(made_by, name):
        while name in made_by and made_by[name].op_type == "Cast":
            name = made_by[name].input[0]
        return name

    @torch.inference_mode()
    def run(self, given):
        held = {self.input: given.to(torch.bfloat16)}
        for node, attributes in zip(self.nodes, self.attributes):
            get = lambda index: held[node.input[index]]
            kind = node.op_type
            if kind == "Conv":
                bias = self.weights[node.input[2]] if len(node.input) > 2 else None
                value = F.conv2d(get(0), self.weights[node.input[1]], bias, attributes["strides"], attributes["pads"][:2], attributes["dilations"])
            elif kind == "Relu":
                value = F.relu(get(0))
            elif kind == "Sigmoid":
                value = torch.sigmoid(get(0).float()).to(torch.bfloat16)
            elif kind == "Add":
                value = get(0) + get(1)
            elif kind == "MaxPool":
                value = F.max_pool2d(get(0), 2, 2, ceil_mode=True)
            elif kind == "Concat" and all(name in held for name in node.input):
                value = torch.cat([held[name] for name in node.input], 1)
            elif kind == "Resize":
                like = self.joined_with.get(node.output[0])
                size = held[like].shape[2:] if like else self.sizes[node.output[0]]
                value = F.interpolate(get(0), size=size, mode="bilinear", align_corners=False)
            elif kind == "Cast" and node.input[0] in held:
                value = get(0)
            elif kind in SIZES | {"Concat"}:
                continue
            else:
                raise NotImplementedError(f"operator {kind}")
            held[node.output[0]] = value
            if node.output[0] == self.output:
                return value.float()
        raise ValueError(f"the network has no output {self.output}")
