"""Runs onnx.checker on model files and prints what they hold as JSON."""

import json
import sys

import onnx
import onnx.shape_inference


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
    names = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64", onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.BOOL: "bool"}
    dims = ",".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
    return f"{value.name} {names[tensor.elem_type]}[{dims}]"


def place(tensor):
    """file:offset of an external tensor, else the number of its bytes"""
    if not tensor.external_data:
        return str(len(tensor.raw_data))
    where = {entry.key: entry.value for entry in tensor.external_data}
    return f"{where['location']}:{where['offset']}"


def types(model):
    """the element types of all values, by shape inference"""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {v.name: v.type.tensor_type.elem_type for v in [*inferred.input, *inferred.output, *inferred.value_info]}
    known |= {t.name: t.data_type for t in inferred.initializer}
    names = {onnx.TensorProto.DataType.Name(t) for t in known.values()}
    if any(name not in known for node in inferred.node for name in node.output if name):
        names.add("unknown")
    for node in nodes(inferred):
        names |= {onnx.TensorProto.DataType.Name(a.i) for a in node.attribute if node.op_type == "Cast" and a.name == "to"}
    return sorted(names)


def unsized(model):
    """the number of values of the language model, not in a Loop, with a size that shape inference could not name"""
    values = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    sizes = [[d.dim_param for d in v.type.tensor_type.shape.dim] for v in values if "/llama/" in v.name]
    return sum(any(s.startswith("unk__") for s in shape) for shape in sizes)


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
            "Domains": sorted({node.domain for node in nodes(model.graph)}),
            "Types": types(model),
            "Unsized": unsized(model),
            "Nodes": len(list(nodes(model.graph))),
            "Ports": [port(value) for value in [*model.graph.input, *model.graph.output]],
            "Tensors": [f"{t.name} {list(t.dims)} {place(t)}" for t in model.graph.initializer],
            "Opset": model.opset_import[0].version,
            "IR": model.ir_version,
            "Weights": sum(elements(t) for t in external),
        }
    )
json.dump(reports, sys.stdout)
