"""Checks a model file with onnx.checker and prints its versions and one weight."""

import sys

import onnx
from onnx import numpy_helper

onnx.checker.check_model(sys.argv[1], full_check=True)
model = onnx.load(sys.argv[1])
weight = next(t for t in model.graph.initializer if t.name == "w")
print("ir", model.ir_version, "opset", model.opset_import[0].version, "w", numpy_helper.to_array(weight).tolist())
