"""What the network is trained to do: the four ways to make a chunk that the tables compare.

diffusion       Discrete Diffusion VLA (arXiv 2508.20072): cross-entropy of hidden action tokens, of which each sample
                has a share cos(pi u / 2), u uniform, and at least one. The others are given: the demonstration's, as in
                the paper, or in some samples the network's own (Loss.own_tokens), which is what a decoder has.
parallel        every action token is hidden, and all are read from one pass.
autoregressive  each token from those before it, with causal attention, as OpenVLA does.
l1              the action head's values by their absolute error, the slots empty, as openvla-oft does.

Cross-entropy is over the 256 action tokens. It counts a token as much in whichever sample of a batch it stands.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .model import BINS

OBJECTIVES = ("diffusion", "parallel", "autoregressive", "l1")


def attention_for(objective, attention=None):
    """The attention of an objective: the one that is asked for if it can be trained so, else its usual one."""
    usual = "causal" if objective == "autoregressive" else "bidirectional"
    if objective in ("autoregressive", "l1") and attention not in (None, usual):
        raise ValueError(f"objective {objective} has {usual} attention, not {attention}")
    return attention or usual


def draw_mask(ratio, whole, order, share):
    """[B, L] bool, true where a token is hidden: cos(pi/2 ratio) of a row, at least one, where order [B, L] is least.

    ratio, whole [B] and order are uniform in 0..1; where whole is below share a row is hidden altogether.
    """
    slots = order.shape[1]
    count = (slots * torch.cos(math.pi / 2 * ratio)).round().clamp(min=1)
    count = torch.where(whole < share, torch.full_like(count, slots), count)
    return order.argsort(1).argsort(1) < count.unsqueeze(1)


def hidden_tokens(objective, ratio, whole, order, share=0.0):
    """[B, L] bool: the tokens whose cross-entropy counts."""
    if objective == "diffusion":
        return draw_mask(ratio, whole, order, share)
    return torch.ones_like(order, dtype=torch.bool)


def target_table(sigma, device="cpu"):
    """[256, 256]: row k is the target distribution of bin k, a Gaussian of sigma bins, cut at the ends."""
    bins = torch.arange(float(BINS), device=device)
    return torch.softmax(-0.5 * ((bins[None] - bins[:, None]) / sigma) ** 2, dim=1)


class Loss(nn.Module):
    """A network together with its objective, so that a wrapper sees one forward pass."""

    def __init__(self, net, objective):
        super().__init__()
        self.net, self.objective = net, objective

    def own_tokens(self, batch, prefix, hidden, padded=None):
        """Tokens and hidden as a decoder has them after its first round: of one pass over an empty chunk the surest
        bins are given, right or wrong, and as many are hidden as hidden [B, L] says."""
        empty = torch.full_like(batch.bins, -1)
        with torch.no_grad():
            scores = self.net.denoise(prefix.detach(), batch.prompt_ids, batch.prompt_length, empty, padded=padded)
        torch.clear_autocast_cache()  # it has weights that no gradient reaches
        sure, bins = scores.softmax(-1).max(-1)
        hidden = sure.argsort(1).argsort(1) < hidden.sum(1, keepdim=True)
        return bins.masked_fill(hidden, -1), hidden

    def forward(self, batch, hidden, scale, table=None, padded=None, own=0):
        """Sums of the loss and of the plain cross-entropy, or absolute error, of a part of a batch, times scale.

        hidden [B, L]: hidden_tokens' result. table: target_table, or None for the bins themselves. own: in so many
        samples, the first ones, what is given of the chunk are own_tokens.
        """
        net, b = self.net, batch
        prefix = net.prefix(b.images, b.proprio)
        if self.objective == "l1":
            total = (net.values(prefix, b.prompt_ids, b.prompt_length, padded) - b.values).abs().sum() * scale
            return total, total.detach()
        tokens = b.bins if self.objective == "autoregressive" else b.bins.masked_fill(hidden, -1)
        if own:
            first = b._replace(bins=b.bins[:own], prompt_ids=b.prompt_ids[:own], prompt_length=b.prompt_length[:own])
            mine = self.own_tokens(first, prefix[:own], hidden[:own], padded)
            tokens, hidden = (torch.cat([m, rest[own:]]) for m, rest in zip(mine, (tokens, hidden)))
        logits = net.denoise(prefix, b.prompt_ids, b.prompt_length, tokens, padded=padded).flatten(0, 1)
        bins, hidden = b.bins.flatten(), hidden.flatten()
        if table is None:
            total = (F.cross_entropy(logits, bins, reduction="none") * hidden).sum() * scale
            return total, total.detach()
        log_p = F.log_softmax(logits, -1)
        total = (-(table[bins] * log_p).sum(-1) * hidden).sum() * scale
        plain = -log_p.detach().gather(1, bins[:, None]).squeeze(1)
        return total, (plain * hidden).sum() * scale
