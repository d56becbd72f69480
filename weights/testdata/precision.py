"""Runs the PyTorch network with every result rounded to the type of its part.

    precision.py TRAIN_DIRECTORY < jobs.json

jobs.json is a list of {"checkpoint", "images", "slots", "case", "vision", "language", "out"}; types are "fp32",
"fp16" or "bf16". The network computes in float32, and PyTorch converts what each of its functions returns to
the type and back. Normalisations, the rotary tables and the final norm with lm_head are not rounded inside. OUT
gets the logits for the inputs in CASE.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

from ddvla import checkpoint, model  # noqa: E402

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NORMS = (torch.nn.LayerNorm, model.RMSNorm)


class Rounding(TorchFunctionMode):
    """Rounds what functions return to the type on top of the stack, None for no rounding."""

    def __init__(self):
        super().__init__()
        self.types = [None]

    def round(self, x):
        dtype = self.types[-1]
        if dtype is None or not isinstance(x, torch.Tensor) or x.dtype != torch.float32:
            return x
        with torch._C.DisableTorchFunction():
            return x.to(dtype).to(torch.float32)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.round(func(*args, **(kwargs or {})))

    def within(self, module, dtype, after=False):
        """Rounds to dtype while the module runs; after, its result to the type around it."""
        module.register_forward_pre_hook(lambda *_: self.types.append(dtype))

        def leave(module, inputs, output):
            self.types.pop()
            return self.round(output) if after else output

        module.register_forward_hook(leave)


def logits(net, inputs, vision, language):
    rounding, last = Rounding(), {}
    backbone, llama = net.vision_backbone, net.language_model.model
    for name, parameter in net.named_parameters():
        module = net.get_submodule(name.rsplit(".", 1)[0])
        if isinstance(module, NORMS) or name == "language_model.lm_head.weight":
            continue
        sees = name.startswith(("vision_backbone.", "projector."))
        parameter.data = parameter.data.to(vision if sees else language).float()
    for part in (backbone.featurizer, backbone.fused_featurizer, net.projector):
        rounding.within(part, vision)
    for part in llama.layers:
        rounding.within(part, language)
    if net.proprio_projector is not None:
        rounding.within(net.proprio_projector, language)
    for module in net.modules():
        if isinstance(module, NORMS):
            rounding.within(module, None, after=True)
    llama.norm.register_forward_pre_hook(lambda module, inputs: last.update(x=inputs[0]))
    # What goes into the first of them, as at every type's border.
    for part, dtype in [(backbone.featurizer, vision), (backbone.fused_featurizer, vision), (net.proprio_projector, language)]:
        if part is not None:
            part.register_forward_pre_hook(lambda module, inputs, dtype=dtype: (inputs[0].to(dtype).float(), *inputs[1:]))
    net.projector.register_forward_hook(lambda module, inputs, output: output.to(language).float())
    tables = model.rope_tables
    model.rope_tables = lambda *arguments: tuple(t.to(language).float() for t in tables(*arguments))
    try:
        with torch.no_grad(), rounding:
            net.logits(*inputs)
    finally:
        model.rope_tables = tables
    with torch.no_grad():
        x, norm = last["x"], llama.norm
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.eps) * norm.weight
        head = net.language_model.lm_head.weight[net.sizes.vocab - model.BINS : net.sizes.vocab].flip(0)
        return F.linear(normed, head)


torch.set_num_threads(1)
for job in json.load(sys.stdin):
    net = model.load(job["checkpoint"], job["images"], job["slots"])
    case = checkpoint.read_safetensors(job["case"])
    types = {"images": torch.uint8, "prompt_ids": torch.int64, "prompt_length": torch.int64, "proprio": None, "tokens": torch.int64}
    inputs = [case[name].to(dtype) if dtype else case[name] for name, dtype in types.items()]
    result = logits(net, inputs, TYPES[job["vision"]], TYPES[job["language"]])
    checkpoint.write_safetensors(job["out"], {"logits": result})
