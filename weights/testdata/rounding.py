"""Compares what a graph of 16-bit types holds with what its float32 form rounds, and prints faults as JSON.

    rounding.py < jobs.json

jobs.json is a list of {"native", "rounded"}, model files whose nodes have the same names but for Casts. Each input
of a node that is a number of float16 or bfloat16 in the one must be rounded to that type in the other, and no other
input may be. Types are followed from inputs and initializers, operator by operator.
"""

import json
import sys

import onnx

FLOAT, BOOL, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL, onnx.TensorProto.INT64
HALVES = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
LOGIC = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not"}
MOVES = {"Reshape", "Transpose", "Expand", "Unsqueeze", "Squeeze", "Concat", "Split", "Slice", "Gather"}
MOVES |= {"GatherElements", "GatherND", "Identity", "Where"}


class Graph:
    def __init__(self, path):
        graph = onnx.load(path, load_external_data=False).graph
        self.nodes = [n for n in graph.node if n.op_type != "Cast"]
        self.maker, self.numbers = {}, {}
        self.types = {t.name: t.data_type for t in graph.initializer}
        self.types.update({i.name: i.type.tensor_type.elem_type for i in graph.input})
        for node in graph.node:
            kind = self.types[node.input[1 if node.op_type == "Where" else 0]]
            if node.op_type == "Cast":
                kind = node.attribute[0].i
            elif node.op_type in LOGIC:
                kind = BOOL
            elif node.op_type in ("Shape", "ArgMax"):
                kind = INT64
            for out in node.output:
                self.types[out], self.maker[out] = kind, node

    def half(self, value):
        """The 16-bit type whose numbers a value holds, in whatever type; None for others, "mixed" for both."""
        if value not in self.numbers:
            kind, node = HALVES.get(self.types[value]), self.maker.get(value)
            if kind is None and node is not None and self.types[value] == FLOAT:
                sources = []
                if node.op_type == "Cast":
                    sources = [node.input[0]]
                elif node.op_type in MOVES:
                    sources = {"Concat": node.input, "Where": node.input[1:]}.get(node.op_type, node.input[:1])
                kinds = {self.half(s) for s in sources}
                kind = kinds.pop() if len(kinds) == 1 else "mixed" if kinds else None
            self.numbers[value] = kind
        return self.numbers[value]


reports = []
for job in json.load(sys.stdin):
    native, rounded = Graph(job["native"]), Graph(job["rounded"])
    there = {node.name: node for node in rounded.nodes}
    halves, faults = 0, []
    for node in native.nodes:
        for i, value in enumerate(node.input):
            want, got = native.half(value), rounded.half(there[node.name].input[i])
            halves += want is not None
            if want != got:
                faults.append(f"input {i} of {node.name} is {want}, rounded {got}")
    reports.append({"Halves": halves, "Faults": faults})
json.dump(reports, sys.stdout)
