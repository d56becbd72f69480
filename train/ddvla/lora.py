"""Low-rank adapters: weights W + alpha/r B A of which only A and B are trained.

Layout and names are those of PEFT (LoraConfig with target_modules "all-linear" and init_lora_weights "gaussian",
as openvla-oft's finetune.py sets them): every linear layer and patch embedding but those that stand beside the
vision-language model, the proprio projector and the action head.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

BESIDE = ("proprio_projector.", "action_head.")
PREFIX = "base_model.model."


class Factor(nn.Module):
    """A or B of a module; its weight has the name that PEFT gives it."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)


def adaptable(net):
    """(name, module) of all that can have an adapter."""
    for name, module in net.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and not name.startswith(BESIDE):
            yield name, module


def targeted(net, targets=None):
    """Those of adaptable whose last name is in targets; None takes all."""
    chosen = [(n, m) for n, m in adaptable(net) if targets is None or n.rsplit(".", 1)[-1] in targets]
    if not chosen:
        raise ValueError(f"no linear layer is called {', '.join(targets)}")
    return chosen


def attach(net, rank, alpha, seed, targets=None):
    """Adds adapters that change nothing yet (B is 0), and freezes everything but them."""
    generator = torch.Generator().manual_seed(seed)
    chosen = targeted(net, targets)
    for p in net.parameters():
        p.requires_grad_(False)
    for _, module in chosen:
        out, *inputs = module.weight.shape
        a = torch.randn(rank, *inputs, generator=generator) / rank  # PEFT: gaussian with std 1/r
        module.lora_A, module.lora_B = Factor(a), Factor(torch.zeros(out, rank, *[1] * (len(inputs) - 1)))
        module.lora_scale = alpha / rank
        if isinstance(module, nn.Linear):
            module.register_forward_hook(add)


def add(module, inputs, output):
    """A linear layer's output with its adapter's."""
    return output + module.lora_scale * F.linear(F.linear(inputs[0], module.lora_A.weight), module.lora_B.weight)


def weight_of(module):
    """The weight of a layer that is used by hand, its adapter in it."""
    if not hasattr(module, "lora_A"):
        return module.weight
    a, b = module.lora_A.weight.float(), module.lora_B.weight.float()
    return module.weight + module.lora_scale * (b.flatten(1) @ a.flatten(1)).view(module.weight.shape)


def split(state):
    """A state dict without the adapters', and theirs."""
    own = {name: tensor for name, tensor in state.items() if ".lora_" in name}
    return {name: tensor for name, tensor in state.items() if name not in own}, own


@torch.no_grad()
def merged(net, dtype=torch.float32):
    """The state dict as dtype on the CPU, every adapter summed into its layer in float32, names as without adapters.
    One layer after the other: a GPU need not hold a second network."""
    state, _ = split(net.state_dict())
    for name, module in net.named_modules():
        if hasattr(module, "lora_A"):
            state[name + ".weight"] = weight_of(module).to(dtype).cpu()
    return {name: tensor.to(dtype).cpu() for name, tensor in state.items()}


def write(net, files, rank, alpha, base, dtype=torch.float32):
    """Writes the adapters as PEFT's save_pretrained does, to checkpoint.Files; base is the checkpoint that they
    belong to."""
    _, own = split(net.state_dict())
    leaves = sorted({name.rsplit(".", 3)[-3] for name in own})
    config = {
        "base_model_name_or_path": base, "peft_type": "LORA", "task_type": None, "inference_mode": True,
        "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0, "use_rslora": False, "use_dora": False,
        "target_modules": leaves, "bias": "none", "fan_in_fan_out": False, "init_lora_weights": "gaussian",
        "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None,
        "layers_pattern": None, "revision": None, "auto_mapping": None,
    }  # fmt: skip
    if not math.isclose(alpha / rank, next(m.lora_scale for m in net.modules() if hasattr(m, "lora_scale"))):
        raise ValueError(f"rank {rank} and alpha {alpha} are not those of the adapters")
    files.json("adapter_config.json", config)
    files.safetensors("adapter_model.safetensors", {PREFIX + name: tensor.to(dtype) for name, tensor in own.items()})
