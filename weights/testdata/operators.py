"""Prints what kinds of nodes ONNX models have, those of bodies too, as JSON.

A kind is an operator of one version with the element types of its type
parameters, named as in the ONNX specification. The types are those that ONNX's
own inference finds.
"""

import collections
import json
import sys

import onnx
import onnx.defs
import onnx.shape_inference
from onnx import AttributeProto, TensorProto

NAMES = {"float": "float32", "double": "float64"}

# ONNX knows nothing of MatMulNBits. Its version, and the parameters of A, B,
# scales and zero_points, and of Y, are from ONNX Runtime's docs/ContribOperators.md.
CONTRIB = {("com.microsoft", "MatMulNBits"): (1, ["T1", "T2", "T1", "T3"], ["T1"])}


def element(number):
    name = TensorProto.DataType.Name(number).lower()
    return NAMES.get(name, name)


def graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def inferred(model):
    """The model with the types of all values."""
    constants = {t.name: t.data_type for g in graphs(model.graph) for t in g.initializer}
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.op_type == "MatMulNBits":
                # Scales and output have the same type.
                kind = constants[node.input[2]]
                graph.value_info.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def value_types(model):
    types = {}
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            types[tensor.name] = element(tensor.data_type)
        for value in [*graph.input, *graph.output, *graph.value_info]:
            kind = element(value.type.tensor_type.elem_type)
            if types.setdefault(value.name, kind) != kind:
                raise SystemExit(f"{value.name} is {kind} and {types[value.name]}")
    return types


def schema(node, opsets):
    """Version, type parameters of inputs and of outputs; whether one may have several types."""
    if node.domain == "com.microsoft":
        return *CONTRIB[node.domain, node.op_type], False
    s = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    mixed = any(not p.isHomogeneous for p in [*s.inputs, *s.outputs])
    return s.since_version, [p.typeStr for p in s.inputs], [p.typeStr for p in s.outputs], mixed


def kind(node, types, opsets):
    since, inputs, outputs, mixed = schema(node, opsets)
    bound = collections.defaultdict(set)
    for names, parameters in [(node.input, inputs), (node.output, outputs)]:
        for i, name in enumerate(names):
            # The last parameter of a variadic operator stands for the rest; one of
            # a single type has no name but tensor(int64).
            parameter = parameters[min(i, len(parameters) - 1)]
            if name and not parameter.startswith("tensor("):
                bound[parameter].add(types[name])
    if not mixed and any(len(kinds) > 1 for kinds in bound.values()):
        raise SystemExit(f"{node.name} ({node.op_type}) mixes types: {dict(bound)}")
    return node.domain or "ai.onnx", node.op_type, since, tuple((p, tuple(sorted(k))) for p, k in sorted(bound.items()))


reports = []
for path in sys.argv[1:]:
    model = inferred(onnx.load(path, load_external_data=False))
    types = value_types(model)
    opsets = {o.domain: o.version for o in model.opset_import}
    counts = collections.Counter(kind(node, types, opsets) for g in graphs(model.graph) for node in g.node)
    kinds = [
        {"Domain": domain, "Operator": operator, "Since": since, "Types": dict(bound), "Nodes": count}
        for (domain, operator, since, bound), count in sorted(counts.items())
    ]
    reports.append({"Opset": opsets[""], "Kinds": kinds})
json.dump(reports, sys.stdout)
