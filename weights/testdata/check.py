"""Runs onnx.checker on model files and prints what they hold as JSON."""

import json
import sys

import onnx


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g)


def elements(tensor):
    count = 1
    for size in tensor.dims:
        count *= size
    return count


reports = []
for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    external = [t for t in model.graph.initializer if t.external_data and not t.name.startswith("rope.")]
    reports.append(
        {
            "Inputs": [value.name for value in model.graph.input],
            "Outputs": [value.name for value in model.graph.output],
            "Operators": sorted({node.op_type for node in nodes(model.graph)}),
            "Opset": model.opset_import[0].version,
            "IR": model.ir_version,
            "Weights": sum(elements(t) for t in external),
        }
    )
json.dump(reports, sys.stdout)
