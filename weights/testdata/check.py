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


def port(value):
    """name type[dimensions]"""
    tensor = value.type.tensor_type
    names = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8"}
    dims = ",".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
    return f"{value.name} {names[tensor.elem_type]}[{dims}]"


def place(tensor):
    """file:offset of an external tensor, else the number of its bytes"""
    if not tensor.external_data:
        return str(len(tensor.raw_data))
    where = {entry.key: entry.value for entry in tensor.external_data}
    return f"{where['location']}:{where['offset']}"


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
            "Nodes": len(list(nodes(model.graph))),
            "Ports": [port(value) for value in [*model.graph.input, *model.graph.output]],
            "Tensors": [f"{t.name} {list(t.dims)} {place(t)}" for t in model.graph.initializer],
            "Opset": model.opset_import[0].version,
            "IR": model.ir_version,
            "Weights": sum(elements(t) for t in external),
        }
    )
json.dump(reports, sys.stdout)
