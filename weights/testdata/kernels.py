"""Writes a model of one node for each combination of element types that ONNX's
specification allows an operator; prints what they are as JSON, as operators.py
does. Arguments: a directory, then operators."""

import itertools
import json
import os
import sys

import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper

OPSET = 17
TYPES = {
    "float32": TensorProto.FLOAT, "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE,
    "int64": TensorProto.INT64, "int32": TensorProto.INT32, "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8,
}
SPELLED = {"float32": "tensor(float)", "float64": "tensor(double)"}


def spelled(name):
    return SPELLED.get(name, f"tensor({name})")


def combinations(schema):
    """Each assignment of types to the type parameters of the inputs and the first output."""
    used = {p.typeStr for p in [*schema.inputs, schema.outputs[0]]}
    options = [
        [(c.type_param_str, name) for name in TYPES if spelled(name) in c.allowed_type_strs]
        for c in schema.type_constraints if c.type_param_str in used
    ]
    return [dict(choice) for choice in itertools.product(*options)]


def model(schema, types):
    def number(parameter):
        if parameter.startswith("tensor("):
            return next(TYPES[n] for n in TYPES if spelled(n) == parameter)
        return TYPES[types[parameter]]

    # Of a variadic operator one input is enough.
    inputs = [
        helper.make_tensor_value_info(f"in{i}", number(p.typeStr), None)
        for i, p in enumerate(schema.inputs) if p.option != onnx.defs.OpSchema.FormalParameterOption.Optional or p.name == "split"
    ]
    output = helper.make_tensor_value_info("out", number(schema.outputs[0].typeStr), None)
    attributes = {"axis": 0} if schema.name == "Concat" else {"to": number("T2")} if schema.name == "Cast" else {}
    node = helper.make_node(schema.name, [i.name for i in inputs], ["out"], **attributes)
    graph = helper.make_graph([node], "node", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


to, *operators = sys.argv[1:]
kinds = []
for operator in operators:
    schema = onnx.defs.get_schema(operator, OPSET, "")
    for types in combinations(schema):
        path = os.path.join(to, f"{len(kinds)}.onnx")
        one = model(schema, types)
        onnx.save(one, path)
        names = [value.name for value in one.graph.input]
        kinds.append({
            "Domain": "ai.onnx", "Operator": operator, "Since": schema.since_version, "Types": {p: [t] for p, t in types.items()},
            "Path": path, "Inputs": names,
        })
json.dump(kinds, sys.stdout)
