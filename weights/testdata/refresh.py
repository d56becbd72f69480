"""Runs the PyTorch network round by round with a prefix that some rounds leave as it was.

    refresh.py TRAIN_DIRECTORY < jobs.json

jobs.json is a list of {"checkpoint", "images", "slots", "cases", "out"}, a case is {"images": [B][N*S*S*3],
"prompt_ids": [B][P], "prompt_length": [B], "proprio": [B][Dp], "recompute": [T], "tokens": [T][B][L]}, the tokens
before each round. OUT gets "N" [T, B, L, 256], the logits of case N's rounds, "N.exact", those of a prefix that
is recomputed in every round, and "N.stale", those of one that is never recomputed after round 0.

Each row runs alone and without pads: a round over the whole sequence, whose keys and values of the tokens before
the last prompt token are kept, or one over the last prompt token, the slots and the stop.
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from ddvla import checkpoint, model  # noqa: E402


def run(net, x, positions, kept):
    """The normed hidden states of the tokens x [1, tokens, hidden], which see themselves and what was kept,
    and the keys and values of each layer."""
    llama, sizes, seen = net.language_model.model, net.sizes, []
    cos, sin = model.rope_tables(positions, sizes.hidden // sizes.heads, sizes.rope_theta)
    for i, layer in enumerate(llama.layers):
        normed, own = layer.input_layernorm(x), layer.self_attn
        q, k, v = (p(normed)[0].unflatten(-1, (sizes.heads, -1)).transpose(0, 1) for p in (own.q_proj, own.k_proj, own.v_proj))
        q, k = model.rotate(q, cos, sin), model.rotate(k, cos, sin)
        seen.append((k, v))
        if kept:
            k, v = (torch.cat(pair, dim=1) for pair in zip(kept[i], (k, v)))
        scores = (q @ k.transpose(1, 2)) / q.shape[-1] ** 0.5
        x = x + own.o_proj((scores.softmax(-1) @ v).transpose(0, 1).flatten(1)).unsqueeze(0)
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return llama.norm(x), seen


def rounds(net, images, prompt, proprio, tokens, recompute):
    """Logits [T, L, 256] of one row."""
    sizes, embed = net.sizes, net.language_model.model.embed_tokens
    prompt = embed(prompt).unsqueeze(0)
    before = torch.cat([prompt[:, :1], net.prefix(images, proprio), prompt[:, 1:]], dim=1)
    last, kept, results = before.shape[1] - 1, None, []
    head = net.language_model.lm_head.weight[sizes.vocab - model.BINS : sizes.vocab].flip(0)
    for t, bins in enumerate(tokens):
        ids = torch.where(bins < 0, torch.full_like(bins, sizes.mask_id), net.bin_id(bins))
        ids = torch.cat([ids, torch.tensor([model.STOP_ID])])
        x = torch.cat([before, embed(ids).unsqueeze(0)], dim=1)
        if t == 0 or recompute[t]:
            out, seen = run(net, x, torch.arange(x.shape[1]), None)
            kept = [(k[:, :last], v[:, :last]) for k, v in seen]
            out = out[:, last:]
        else:
            out, _ = run(net, x[:, last:], torch.arange(last, x.shape[1]), kept)
        results.append(F.linear(out[0, : len(bins)], head))
    return torch.stack(results)


def results(net, case):
    sizes = net.sizes
    kinds = {"": case["recompute"], ".exact": [True] * len(case["tokens"]), ".stale": [False] * len(case["tokens"])}
    logits = {kind: [] for kind in kinds}
    for b, length in enumerate(case["prompt_length"]):
        images = torch.tensor(case["images"][b], dtype=torch.uint8).view(1, sizes.images, sizes.image, sizes.image, 3)
        proprio = torch.tensor([case["proprio"][b]]) if sizes.proprio else None
        tokens = [torch.tensor(row[b]) for row in case["tokens"]]
        prompt = torch.tensor(case["prompt_ids"][b][:length])
        for kind, recompute in kinds.items():
            logits[kind].append(rounds(net, images, prompt, proprio, tokens, recompute))
    return {kind: torch.stack(rows, dim=1) for kind, rows in logits.items()}


torch.set_num_threads(1)
with torch.no_grad():
    for job in json.load(sys.stdin):
        net = model.load(job["checkpoint"], job["images"], job["slots"])
        tensors = {}
        for number, case in enumerate(job["cases"]):
            tensors |= {f"{number}{kind}": x.contiguous() for kind, x in results(net, case).items()}
        checkpoint.write_safetensors(job["out"], tensors)
