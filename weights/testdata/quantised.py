"""Runs the PyTorch network with the weights that a quantised bundle stands for.

    quantised.py TRAIN_DIRECTORY < jobs.json

jobs.json is a list of {"checkpoint", "bundle", "images", "slots", "case", "attention", "mutations", "out"}. The
integers of BUNDLE/step.onnx are read with the onnx module and multiplied out with NumPy as ONNX Runtime's
docs/ContribOperators.md says of MatMulNBits; they replace the weights of CHECKPOINT. OUT gets the logits of
the inputs in CASE and those of each mutation: "nibbles" of the codes swapped, "zero" points one off,
"zero_nibbles" of neighbouring blocks swapped, "zero_default" points in the middle, and the "original" weights.

Prints for each job {"weights": the number of quantised matrices, "error": the largest error of a weight over
its scale, "inside": the same of the weights between the least and the largest value that a code stands for,
"padding": the largest distance of padding from its zero point}.
"""

import json
import os
import sys

sys.path.insert(0, sys.argv[1])

import numpy  # noqa: E402
import onnx  # noqa: E402
import onnx.numpy_helper  # noqa: E402
import torch  # noqa: E402

from ddvla import checkpoint, model  # noqa: E402


def unpack(raw, bits, swapped=False):
    """[..., bytes] to [..., codes], the low nibble first."""
    if bits == 8:
        return raw.astype(numpy.int64)
    nibbles = [raw & 15, raw >> 4]
    if swapped:
        nibbles.reverse()
    return numpy.stack(nibbles, axis=-1).reshape(*raw.shape[:-1], -1).astype(numpy.int64)


def parts(node, tensors):
    attributes = {a.name: a.i for a in node.attribute}
    names = list(node.input)
    b, scales = tensors[names[1]], tensors[names[2]]
    zeros = tensors[names[3]] if len(names) > 3 else None
    return attributes, names[1], b, scales, zeros


def matrix(attributes, b, scales, zeros, mutation):
    k, bits, block = attributes["K"], attributes["bits"], attributes["block_size"]
    blocks = -(-k // block)
    codes = unpack(b, bits, mutation == "nibbles")
    if zeros is None:
        offsets = numpy.full(scales.shape, 1 << (bits - 1))
    else:
        offsets = unpack(zeros, bits, mutation == "zero_nibbles")[:, :blocks]
    if mutation == "zero":
        offsets = offsets + 1
    if mutation == "zero_default":
        offsets = numpy.full(scales.shape, 1 << (bits - 1))
    values = (codes - offsets[..., None]) * scales[..., None].astype(numpy.float64)
    padding = (codes - offsets[..., None]).reshape(len(codes), -1)[:, k:]
    return values.reshape(len(values), -1)[:, :k], numpy.abs(padding).max(initial=0)


def reach(attributes, scales, zeros):
    """Least and largest value of each weight that a code stands for."""
    bits, block, k = attributes["bits"], attributes["block_size"], attributes["K"]
    offsets = numpy.full(scales.shape, 1 << (bits - 1)) if zeros is None else unpack(zeros, bits)[:, : scales.shape[1]]
    ends = [-offsets * scales.astype(numpy.float64), ((1 << bits) - 1 - offsets) * scales.astype(numpy.float64)]
    ends = [numpy.repeat(e, block, axis=1)[:, :k] for e in ends]
    return numpy.minimum(*ends), numpy.maximum(*ends), numpy.repeat(scales, block, axis=1)[:, :k]


torch.set_num_threads(1)
reports = []
for job in json.load(sys.stdin):
    net = model.load(job["checkpoint"], job["images"], job["slots"])
    graph = onnx.load(os.path.join(job["bundle"], "step.onnx")).graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    nodes = [parts(n, tensors) for n in graph.node if n.op_type == "MatMulNBits"]
    report = {"weights": len({n[1] for n in nodes}), "error": 0.0, "inside": 0.0, "padding": 0}
    original = {name: net.get_parameter(name).detach().numpy().astype(numpy.float64) for _, name, *_ in nodes}
    for attributes, name, b, scales, zeros in nodes:
        values, padding = matrix(attributes, b, scales, zeros, None)
        low, high, scale = reach(attributes, scales, zeros)
        error = numpy.abs(values - original[name]) / numpy.abs(scale)
        report["error"] = max(report["error"], error.max())
        inside = (original[name] >= low) & (original[name] <= high)
        report["inside"] = max(report["inside"], error[inside].max())
        report["padding"] = max(report["padding"], int(padding))
    reports.append(report)
    case = checkpoint.read_safetensors(job["case"])
    types = {"images": torch.uint8, "prompt_ids": torch.int64, "prompt_length": torch.int64, "proprio": None, "tokens": torch.int64}
    inputs = [case[name].to(dtype) if dtype else case[name] for name, dtype in types.items()]
    results = {}
    for mutation in [None, *job["mutations"]]:
        with torch.no_grad():
            for attributes, name, b, scales, zeros in nodes:
                values, _ = matrix(attributes, b, scales, zeros, mutation)
                net.get_parameter(name).copy_(torch.from_numpy(values if mutation != "original" else original[name]))
            results["logits" + ("." + mutation if mutation else "")] = net.logits(*inputs, attention=job["attention"])
    checkpoint.write_safetensors(job["out"], results)
json.dump(reports, sys.stdout)
