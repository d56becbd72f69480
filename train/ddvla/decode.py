"""Greedy decoding: the most probable tokens, the surest positions first, as the preset `greedy` does."""

import functools
import math

import torch

from .data import CENTRES


def greedy(net, images, prompt_ids, prompt_length, proprio, rounds=12, remask=True, window=2):
    """Decodes chunks for a batch. Returns bins [B, L] and their sub-bin means [B, L], normalised."""
    with torch.no_grad():
        prefix = net.prefix(images, proprio)
        start = torch.full((images.shape[0], net.sizes.slots), -1, device=images.device)
        return denoise(lambda t, tokens: net.denoise(prefix, prompt_ids, prompt_length, tokens), start, rounds, remask, window)


def denoise(logits, tokens, rounds=12, remask=True, window=2):
    """The rounds. logits(t, tokens) gives those of round t, [B, L, 256], for tokens [B, L], -1 where masked.

    After round t the floor(L cos(pi/2 r)) positions of least confidence are masked again, r = (t+1)/T,
    and so is every token committed in an earlier round whose confidence is now below r/2. The last
    round keeps all. Nothing waits for the device.
    """
    slots = tokens.shape[1]
    for t in range(rounds):
        r = (t + 1) / rounds
        p = logits(t, tokens).softmax(-1)
        committed = tokens >= 0
        candidate = torch.where(committed, tokens, p.argmax(-1))
        confidence = p.gather(-1, candidate.unsqueeze(-1)).squeeze(-1)
        if t == rounds - 1:
            tokens = candidate
            break
        masked = math.floor(slots * math.cos(math.pi / 2 * r) + 1e-9)
        order = confidence.masked_fill(committed, math.inf).argsort(dim=1, stable=True)
        again = torch.zeros_like(committed).scatter(1, order[:, :masked], True) & ~committed
        if remask:
            again |= committed & (confidence < 0.5 * r)
        tokens = candidate.masked_fill(again, -1)
    return tokens, mean(p, tokens, window)


@functools.lru_cache(maxsize=None)
def centres(device):
    """Of the 256 bins, the last one the value of the one before, as in OpenVLA."""
    return torch.tensor(list(CENTRES) + [CENTRES[-1]], dtype=torch.float32, device=device)


def mean(p, tokens, window):
    """Expected value over the bins within `window` of the chosen one."""
    near = (torch.arange(p.shape[-1], device=p.device) - tokens.unsqueeze(-1)).abs() <= window
    p = p * near
    return (p * centres(p.device)).sum(-1) / p.sum(-1).clamp(min=1e-20)
