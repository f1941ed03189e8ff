#!/usr/bin/env python3
"""Halves an ONNX file: large weights are stored as float16 behind a Cast, which ONNX Runtime folds away when it opens the file.

usage: finish.py FROM.onnx TO.onnx
"""

import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper

LARGE = 1_000


def main():
    model = onnx.load(sys.argv[1])
    graph, casts = model.graph, []
    for index, weight in enumerate(graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size >= LARGE:
            half = numpy_helper.from_array(values.astype(np.float16), weight.name + ".half")
            casts.append(helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT))
            graph.initializer[index].CopyFrom(half)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend(casts + nodes)
    model.producer_name, model.producer_version, model.doc_string = "", "", ""
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[2])


if __name__ == "__main__":
    main()
