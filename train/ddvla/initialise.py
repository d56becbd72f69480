"""Initial values: sensible ones to train from, and wild ones to compare implementations with."""

import math

import torch

from .model import BINS


def for_training(model, seed):
    """Weights scaled by fan-in, and three head starts for small models and short runs.

    Action slots differ by RoPE position only, so the first Llama layer attends sharply and adds its
    result at full size to a small mask embedding: slots are told apart from the first step on.
    Rows of action tokens, in embed_tokens and lm_head, are smooth in the bin (cosines of falling
    size, turned at random), so that what is learned of one bin holds for its neighbours.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std)

    def ordinal(tensor, std):
        bins, width = tensor.shape
        k, j = torch.arange(bins).float() + 0.5, torch.arange(1, width + 1).float()
        waves = torch.cos(math.pi / bins * k[:, None] * j) / (1 + j / 4)
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
        rows = waves @ turn
        tensor.copy_(rows * (std / rows.std()))

    sizes = model.sizes
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            first = "language_model.model.layers.0." in name
            if name.endswith(("norm.weight", "layernorm.weight", "norm1.weight", "norm2.weight")):
                tensor.fill_(1)
            elif leaf == "bias":
                tensor.zero_()
            elif leaf == "scale_factor":
                tensor.fill_(0.5)
            elif leaf in ("cls_token", "reg_token", "latent", "pos_embed"):
                normal(tensor, 0.3)
            elif "embed_tokens" in name:
                normal(tensor, 0.5)
                ordinal(tensor[sizes.vocab - BINS : sizes.vocab], 0.5)
                normal(tensor[sizes.mask_id], 0.1)
            elif "lm_head" in name:
                # Wide enough that a hidden state of width 1 can be sure of a bin.
                normal(tensor, 0.15)
                ordinal(tensor[sizes.vocab - BINS : sizes.vocab], 0.15)
            else:
                gain = 1.0
                if "o_proj" in name or "down_proj" in name:
                    gain = 1.0 if first else (2 * sizes.layers) ** -0.5
                elif "q_proj" in name or "k_proj" in name:
                    gain = 1.6 if first else 1.2
                normal(tensor, gain * tensor[0].numel() ** -0.5)


def for_comparison(model, seed, logit_std=2.0, probe=None):
    """Makes every tensor matter: no unit scales, no zero biases, register tokens of weight.

    lm_head is scaled until the logits of `probe` (a tuple of arguments of `logits`) have the
    standard deviation logit_std: flat logits would agree whatever is wrong.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(tensor, std, mean=0.0):
        tensor.copy_(mean + torch.randn(tensor.shape, generator=generator) * std)

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if name.endswith(("norm.weight", "layernorm.weight", "norm1.weight", "norm2.weight")):
                random(tensor, 0.2, 1.0)
            elif leaf == "bias":
                random(tensor, 0.2)
            elif leaf == "scale_factor":
                random(tensor, 0.2, 0.6)
            elif leaf == "reg_token":
                random(tensor, 3.0)
            elif leaf in ("cls_token", "latent", "pos_embed"):
                random(tensor, 0.7)
            elif "embed_tokens" in name:
                random(tensor, 1.0)
            elif "lm_head" in name:
                random(tensor, 0.1)
            else:
                gain = 2.0 if "q_proj" in name or "k_proj" in name or "qkv" in name else 1.2
                random(tensor, gain * tensor[0].numel() ** -0.5)
        if probe is not None:
            # Against a bfloat16 file the scale need not be exact: it is applied before rounding.
            model.language_model.lm_head.weight.mul_(logit_std / float(model.logits(*probe).std()))
