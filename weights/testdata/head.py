"""The L1 action head of openvla-oft, written from its description, behind the network of train/."""

import torch
from torch import nn
from torch.nn import functional as F

MUTATIONS = {
    "masks": "the slots hold the mask token instead of zeros",
    "no_shift": "hidden states are read at the slots themselves",
    "no_norm": "without the language model's final norm",
    "transposed": "the hidden states of a column go together, not those of a row",
    "no_relu": "residual layers without ReLU",
    "inside": "x + Linear(ReLU(LN x))",
    "plain": "layers without their residuals",
    "one": "one residual layer less",
    "tanh": "values are squashed",
}


class Residual(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU())


class Model(nn.Module):
    def __init__(self, inputs, inner, depth, dims):
        super().__init__()
        self.layer_norm1, self.fc1 = nn.LayerNorm(inputs), nn.Linear(inputs, inner)
        self.mlp_resnet_blocks = nn.ModuleList(Residual(inner) for _ in range(depth))
        self.layer_norm2, self.fc2 = nn.LayerNorm(inner), nn.Linear(inner, dims)


class Head(nn.Module):
    def __init__(self, hidden, inner, depth, dims, seed):
        super().__init__()
        self.dims, self.model = dims, Model(hidden * dims, inner, depth, dims)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, p in self.named_parameters():
                std = 1.5 * p[0].numel() ** -0.5 if p.dim() == 2 else 0.3
                p.copy_(torch.randn(p.shape, generator=generator) * std + (p.dim() == 1 and "weight" in name))

    def forward(self, x, mutation=None):
        """[B, L, hidden] to [B, L]."""
        m, batch, slots = self.model, x.shape[0], x.shape[1]
        if mutation == "transposed":
            x = x.view(batch, self.dims, slots // self.dims, -1).transpose(1, 2)
        x = F.relu(m.fc1(m.layer_norm1(x.reshape(batch, slots // self.dims, -1))))
        for block in m.mlp_resnet_blocks[: -1 if mutation == "one" else None]:
            norm, linear = block.ffn[0], block.ffn[1]
            y = linear(F.relu(norm(x))) if mutation == "inside" else linear(norm(x))
            y = y if mutation in ("inside", "no_relu") else F.relu(y)
            x = y if mutation == "plain" else x + y
        x = m.fc2(m.layer_norm2(x)).reshape(batch, slots)
        return x.tanh() if mutation == "tanh" else x


def values(net, head, inputs, mutation=None):
    seen, slots = {}, net.sizes.slots
    model = net.language_model.model

    def zero(module, args, output):
        if mutation == "masks" or output.shape[1] <= slots:
            return output
        output = output.clone()
        output[:, -slots - 1 : -1] = 0
        return output

    def keep(module, args, output):
        seen["hidden"] = args[0] if mutation == "no_norm" else output

    handles = [model.embed_tokens.register_forward_hook(zero), model.norm.register_forward_hook(keep)]
    tokens = torch.full_like(inputs[4], -1)
    net.logits(*inputs[:4], tokens, mutate="no_shift" if mutation == "no_shift" else None)
    for handle in handles:
        handle.remove()
    return head(seen["hidden"], mutation)
