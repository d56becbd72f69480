"""Rounds over the whole sequence, or over the action block on keys and values that are kept.

The network is that of model.py, with its weights; what is here is for speed. Prompts of a batch have one
length, so that no mask is needed and nothing waits for the device: a whole chunk can be captured in a CUDA
graph. A sequence is

    [BOS] [image patches] [proprio] [prompt but its last token] | [last prompt token] [action slots] [</s>]

with the action block after the bar.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from . import attention, model
from .model import BINS, STOP_ID, rope_tables, rotate


class Weights(NamedTuple):
    """Those of a Llama layer. A compiled function that is given them compiles once for all layers."""

    norm: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    o: torch.Tensor
    mlp_norm: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor

    @classmethod
    def of(cls, layer):
        own, mlp = layer.self_attn, layer.mlp
        linear = [m.weight for m in (own.q_proj, own.k_proj, own.v_proj, own.o_proj)]
        inner = [m.weight for m in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
        return cls(layer.input_layernorm.weight, *linear, layer.post_attention_layernorm.weight, *inner)


def rms_norm(x, weight, eps):
    """RMSNorm in float32: one kernel on a GPU."""
    if x.device.type == "cuda":
        return F.rms_norm(x, weight.shape, weight, eps)
    return model.rms_norm(x, weight, eps)


def split(x, heads):
    """[B, n, H] to [B, heads, n, H / heads]."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def keys_values(w, x, cos, sin, heads, eps):
    """Keys and values [B, heads, n, D] of the tokens x [B, n, H] in a layer."""
    normed = rms_norm(x, w.norm, eps)
    return rotate(split(F.linear(normed, w.k), heads), cos, sin), split(F.linear(normed, w.v), heads)


def layer(w, x, cos, sin, heads, eps, attend, rows=None, kept=None):
    """A Llama layer for the tokens x [B, n, H]: what comes out, and the keys and values that were attended to.

    rows: (start, stop) of the tokens that come out. kept: buffers of keys and values [B, heads, m + n, D] of
    a sequence that x is the end of, whose last n entries are overwritten, and all of which x attends to.
    """
    normed = rms_norm(x, w.norm, eps)
    k = rotate(split(F.linear(normed, w.k), heads), cos, sin)
    v = split(F.linear(normed, w.v), heads)
    if kept is not None:
        n = x.shape[1]
        kept[0][:, :, -n:] = k
        kept[1][:, :, -n:] = v
        k, v = kept
    if rows is not None:
        own = slice(*rows)
        x, normed, cos, sin = x[:, own], normed[:, own], cos[own], sin[own]
    q = rotate(split(F.linear(normed, w.q), heads), cos, sin)
    x = x + F.linear(attend(q, k, v).transpose(1, 2).reshape(x.shape), w.o)
    normed = rms_norm(x, w.mlp_norm, eps)
    return x + F.linear(F.silu(F.linear(normed, w.gate)) * F.linear(normed, w.up), w.down), k, v


class Rounds:
    """The rounds of a batch of chunks with one length of prompt.

    prompt_ids [B, P] without pads, on the network's device. attend: attention.fused or written_out; None
    takes the network's own. compiler: applied to the functions of a layer, torch.compile for one.
    """

    def __init__(self, net, prompt_ids, attend=None, compiler=lambda function: function):
        self.net, self.prompt_ids, self.attend = net, prompt_ids, attend or attention.attend
        self.layer, self.keys_values = compiler(layer), compiler(keys_values)
        sizes, llama = net.sizes, net.language_model
        self.weights = [Weights.of(module) for module in llama.model.layers]
        patches = sizes.images * sizes.patches
        self.first = patches + (sizes.proprio > 0) + prompt_ids.shape[1] - 1  # of the action block
        self.block_tokens = sizes.slots + 2
        column = torch.arange(self.first + self.block_tokens, device=prompt_ids.device)
        tables = rope_tables(column, sizes.hidden // sizes.heads, sizes.rope_theta)
        self.cos, self.sin = (t.to(self.weights[0].norm.dtype) for t in tables)
        self.head = llama.lm_head.weight[sizes.vocab - BINS : sizes.vocab].flip(0).float()

    def before(self, images, proprio):
        """All tokens before the block, [B, first, H], from pictures and state as DDVLA.prefix takes them."""
        prompt = self.net.language_model.model.embed_tokens(self.prompt_ids[:, :-1])
        return torch.cat([prompt[:, :1], self.net.prefix(images, proprio), prompt[:, 1:]], dim=1)

    def embed(self, tokens):
        """The action block [B, slots + 2, H]."""
        net = self.net
        ids = torch.where(tokens < 0, torch.full_like(tokens, net.sizes.mask_id), net.bin_id(tokens))
        ids = torch.cat([self.prompt_ids[:, -1:], ids, torch.full_like(ids[:, :1], STOP_ID)], dim=1)
        return net.language_model.model.embed_tokens(ids)

    def whole(self, before, tokens, keep=False):
        """Logits [B, L, 256] float32 of a round in which all tokens see each other; with keep, keys and
        values for block as well."""
        x, kept = torch.cat([before, self.embed(tokens)], dim=1), []
        for i in range(len(self.weights)):
            x, k, v = self._layer(i, x, 0, self.first)
            if keep:
                kept.append((k, v))
        logits = self._logits(x)
        return (logits, kept) if keep else logits

    def prefix(self, before):
        """Keys and values for block, of tokens that do not see the block: attention prefix."""
        x, kept, sizes = before, [], self.net.sizes
        cos, sin = self.cos[: self.first], self.sin[: self.first]
        for w in self.weights[:-1]:
            x, *own = self.layer(w, x, cos, sin, sizes.heads, sizes.eps, self.attend)
            kept.append(own)
        kept.append(self.keys_values(self.weights[-1], x, cos, sin, sizes.heads, sizes.eps))
        return [tuple(F.pad(y, (0, 0, 0, self.block_tokens)) for y in own) for own in kept]

    def block(self, tokens, kept):
        """Logits [B, L, 256] float32 of a round over the block alone; what was kept of the block is overwritten."""
        x = self.embed(tokens)
        for i, own in enumerate(kept):
            x, _, _ = self._layer(i, x, self.first, 0, own)
        return self._logits(x)

    def _layer(self, i, x, start, block, kept=None):
        """Layer i of a round for the tokens x from column start on, of which the block begins with number `block`.

        From the last layer only the tokens come out that the logits are read at: each stands one before its slot.
        """
        sizes = self.net.sizes
        rows = (block, block + sizes.slots) if i == len(self.weights) - 1 else None
        cos, sin = self.cos[start:], self.sin[start:]
        return self.layer(self.weights[i], x, cos, sin, sizes.heads, sizes.eps, self.attend, rows, kept)

    def _logits(self, x):
        return F.linear(self.net.language_model.model.norm(x.float()), self.head)

    def exact(self, before):
        """logits(t, tokens) of decode.denoise: the whole sequence in each round."""
        return lambda t, tokens: self.whole(before, tokens)

    def refresh(self, before, every):
        """The whole sequence in rounds 0, every, 2 every, ..., the block in the others."""
        kept = []

        def logits(t, tokens):
            if t % every:
                return self.block(tokens, kept[0])
            kept.clear()
            result, now = self.whole(before, tokens, keep=True)
            kept.append(now)
            return result

        return logits

    def prefixed(self, before):
        """Attention prefix: all before the block once, the block in each round."""
        kept = self.prefix(before)
        return lambda t, tokens: self.block(tokens, kept)
