"""FiLM and PEFT's LoRA layers around the vision towers, named as openvla-oft names them.

Written from its description: each block of both towers scales and shifts what stands between its
attention and its MLP by two linear layers of the mean embedding of all tokens that are no actions.
"""

import torch
from torch import nn

STOP_ID = 2

MUTATIONS = {
    "plain": "blocks without FiLM",
    "one": "x * gamma + beta",
    "late": "after the MLP, not before it",
    "swapped": "scale and shift are taken for each other",
    "pads": "pads count in the mean",
    "no_stop": "the stop does not count in the mean",
    "no_bos": "BOS does not count in the mean",
    "first_row": "all rows of a batch have the first one's prompt",
    "lora": "LoRA is left out",
    "no_conv": "LoRA of the patch convolutions is left out",
    "base": "the towers' own values in the safetensors",
}


class Settings:
    """What the layers of one network share while it runs."""

    language, mutation, scale = None, None, 1.0


class LoRA(nn.Module):
    def __init__(self, base, rank, settings, random):
        super().__init__()
        self.base_layer = base
        if isinstance(base, nn.Conv2d):
            a = nn.Conv2d(3, rank, base.kernel_size, base.stride, bias=False)
            b = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        else:
            a, b = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        random(a.weight, base.weight[0].numel() ** -0.5)
        random(b.weight, 0.6 * rank**-0.5)
        self.lora_A, self.lora_B = nn.ModuleDict({"default": a}), nn.ModuleDict({"default": b})
        self.settings = [settings]

    def forward(self, x):
        y, s = self.base_layer(x), self.settings[0]
        if s.mutation == "lora" or s.mutation == "no_conv" and isinstance(self.base_layer, nn.Conv2d):
            return y
        return y + s.scale * self.lora_B["default"](self.lora_A["default"](x))


class Patches(nn.Module):
    """The patch embedding by its convolution."""

    def __init__(self, proj):
        super().__init__()
        self.proj = proj

    def forward(self, x):
        return self.proj(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)


class Block(nn.Module):
    def __init__(self, block, hidden, settings, random):
        super().__init__()
        dim = block.norm1.weight.shape[0]
        self.block, self.scale, self.shift = block, nn.Linear(hidden, dim), nn.Linear(hidden, dim)
        for layer in (self.scale, self.shift):
            random(layer.weight, 1.5 * hidden**-0.5)
            random(layer.bias, 0.3)
        self.settings = [settings]

    def forward(self, x, mutate=None):
        block, s = self.block, self.settings[0]
        gamma, beta = self.scale(s.language).unsqueeze(1), self.shift(s.language).unsqueeze(1)
        if s.mutation == "swapped":
            gamma, beta = beta, gamma
        modulate = {"plain": lambda x: x, "one": lambda x: x * gamma + beta}
        modulate = modulate.get(s.mutation, lambda x: x * (1 + gamma) + beta)
        y = block.attn(block.norm1(x))
        x = x + (block.ls1(y) if block.ls1 is not None else y)
        if s.mutation != "late":
            x = modulate(x)
        y = block.mlp(block.norm2(x))
        x = x + (block.ls2(y) if block.ls2 is not None else y)
        return modulate(x) if s.mutation == "late" else x


class Backbone(nn.Module):
    def __init__(self, vision_backbone):
        super().__init__()
        self.vision_backbone = vision_backbone


def wrap(net, rank, dtype, seed):
    """Changes the towers of net, wraps them in LoRA (rank 0: in none) and FiLM, returns the settings."""
    generator, settings = torch.Generator().manual_seed(seed), Settings()

    @torch.no_grad()
    def random(tensor, std):
        # As they are saved, so that the comparison is of what is in the file.
        tensor.copy_((torch.randn(tensor.shape, generator=generator) * std).to(dtype))

    with torch.no_grad():
        for parameter in net.vision_backbone.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * parameter.abs().mean() * 0.2
            parameter.copy_((parameter + noise).to(dtype))
    linear = (nn.Linear, nn.Conv2d)
    for name, module in list(net.vision_backbone.named_modules()) if rank else []:
        if isinstance(module, linear):
            parent, leaf = name.rsplit(".", 1)
            setattr(net.vision_backbone.get_submodule(parent), leaf, LoRA(module, rank, settings, random))
    for tower in (net.vision_backbone.featurizer, net.vision_backbone.fused_featurizer):
        if rank:
            tower.patch_embed = Patches(tower.patch_embed.proj)
        tower.blocks = nn.ModuleList(Block(block, net.sizes.hidden, settings, random) for block in tower.blocks)
    return settings


def logits(net, settings, inputs, scale, mutation=None):
    images, ids, lengths = inputs[:3]
    embed, rows = net.language_model.model.embed_tokens, []
    for row, length in zip(ids, lengths.tolist()):
        words = row if mutation == "pads" else row[:length]
        words = words[1:] if mutation == "no_bos" else words
        words = words if mutation == "no_stop" else torch.cat([words, torch.tensor([STOP_ID])])
        rows.append(embed(words).mean(0))
    if mutation == "first_row":
        rows = rows[:1] * len(rows)
    settings.language = torch.stack(rows).repeat_interleave(images.shape[1], 0)
    settings.mutation, settings.scale = mutation, scale
    return net.logits(*inputs)


def state_dict(net, dtype):
    return {name: tensor.to(dtype) for name, tensor in Backbone(net.vision_backbone).state_dict().items()}
