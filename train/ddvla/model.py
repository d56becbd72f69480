"""Discrete Diffusion VLA (arXiv 2508.20072) on the OpenVLA-OFT architecture, at any size.

Camera images go through a DINOv2-like and a SigLIP-like vision transformer, are projected to the
width of a Llama, and stand in one fully attended sequence with proprioception, the instruction and
one slot per action token:

    [BOS] [image patches] [proprio] [prompt] [action slots] [</s>]

A slot carries the embedding of its action token, or of the mask token while it is unknown. As in
every Llama the logits of a token are read one row earlier, so the last prompt token predicts
action token 0 (openvla-oft modeling_prismatic.py). Module and parameter names are those of the
published checkpoints. Everything is written out in plain operations: this module, in float32, is also
what other implementations of the same graph are compared with. In float16 or bfloat16 the norms of the
Llama and lm_head stay float32, as in the exported graphs.
"""

import contextlib
import math
import os
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from . import checkpoint, lora
from .attention import attend
from .head import ActionHead

BINS = 256
STOP_ID = 2
PUBLISHED_VITS = {"vit_large_patch14_reg4_dinov2.lvd142m": 16, "vit_so400m_patch14_siglip_224": 16}

# What `logits(mutate=...)` can get wrong on purpose. A comparison that still passes with one of
# these does not look at that part.
MUTATIONS = {
    "no_registers": "the DINO tower runs without its register tokens",
    "no_layerscale": "LayerScale is left out",
    "no_proprio": "the proprio token is left out of the sequence",
    "no_shift": "logits are read at the slot itself, not one row before",
    "rope_interleaved": "RoPE turns pairs (2i, 2i+1) instead of the two halves",
    "last_block": "vision features come from the last block, not the one before",
    "mask_row": "unknown slots carry the embedding row after the mask token's",
    "image_order": "the images are taken in reverse order",
    "causal": "the Llama attends causally",
    "vision_norm": "the final norm of the vision towers is applied",
    "bin_order": "bins are counted from the other end",
}


@dataclass
class ViTSizes:
    dim: int
    depth: int
    heads: int
    mlp: int
    registers: int = 0
    cls: bool = False
    layer_scale: bool = False
    attn_pool: bool = False


@dataclass
class Sizes:
    """Everything that determines the shapes of a model."""

    vocab: int = 1024  # V, without the padding rows; the last 256 of them are the action tokens
    pad_to_multiple_of: int = 64
    pad_id: int = 1024
    mask_id: int = 1025
    image: int = 64
    patch: int = 16
    images: int = 3
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 352
    eps: float = 1e-6
    rope_theta: float = 10000.0
    proprio: int = 14  # 0: no proprio token
    slots: int = 112  # L, action tokens of a chunk
    dino: ViTSizes = field(default_factory=lambda: ViTSizes(96, 4, 4, 384, registers=4, cls=True, layer_scale=True))
    siglip: ViTSizes = field(default_factory=lambda: ViTSizes(128, 4, 4, 344, attn_pool=True))

    @property
    def rows(self):
        """Rows of embed_tokens and lm_head."""
        return self.vocab + self.pad_to_multiple_of

    @property
    def patches(self):
        """Patches of one image."""
        return (self.image // self.patch) ** 2

    @classmethod
    def of_json(cls, values):
        """From a dict of fields, those of the two towers dicts themselves; what is left out has its default."""
        towers = {name: ViTSizes(**values[name]) for name in ("dino", "siglip") if name in values}
        return cls(**{**values, **towers})

    def config(self):
        """config.json with the keys of published checkpoints, plus timm_model_args."""
        return {
            "architectures": ["OpenVLAForActionPrediction"],
            "model_type": "openvla",
            "arch_specifier": "no-align+fused-gelu-mlp",
            "use_fused_vision_backbone": True,
            "vision_backbone_id": "dinosiglip-vit-tiny",
            "llm_backbone_id": "llama-tiny",
            "timm_model_ids": [
                f"vit_tiny_patch{self.patch}_reg{self.dino.registers}_dinov2",
                f"vit_tiny_patch{self.patch}_siglip_{self.image}",
            ],
            "timm_model_args": [{"num_heads": self.dino.heads}, {"num_heads": self.siglip.heads}],
            "timm_override_act_layers": [None, None],
            "image_sizes": [self.image, self.image],
            "image_resize_strategy": "resize-naive",
            "text_config": {
                "model_type": "llama",
                "vocab_size": self.rows,
                "hidden_size": self.hidden,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.heads,
                "intermediate_size": self.intermediate,
                "rms_norm_eps": self.eps,
                "rope_theta": self.rope_theta,
                "bos_token_id": 1,
                "eos_token_id": STOP_ID,
                "pad_token_id": self.pad_id,
                "hidden_act": "silu",
                "tie_word_embeddings": False,
                "torch_dtype": "bfloat16",
            },
            "pad_token_id": self.pad_id,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "mask_token_id": self.mask_id,
            "n_action_bins": BINS,
            "torch_dtype": "bfloat16",
        }

    @classmethod
    def of_checkpoint(cls, config, tensors, images, slots):
        """Widths and depths follow from tensor shapes; heads and ids from config.json.

        How many images and action tokens there are no checkpoint of this family says.
        """
        text = config.get("text_config", {})

        def shape(name):
            return tuple(tensors[name].shape)

        def depth(prefix):
            return 1 + max(int(n[len(prefix) :].split(".")[0]) for n in tensors if n.startswith(prefix))

        def vit(prefix, number):
            ids, args = config["timm_model_ids"], config.get("timm_model_args")
            heads = PUBLISHED_VITS.get(ids[number]) or args[number]["num_heads"]
            registers = prefix + "reg_token"
            return ViTSizes(
                dim=shape(prefix + "pos_embed")[2],
                depth=depth(prefix + "blocks."),
                heads=heads,
                mlp=shape(prefix + "blocks.0.mlp.fc1.weight")[0],
                registers=shape(registers)[1] if registers in tensors else 0,
                cls=prefix + "cls_token" in tensors,
                layer_scale=prefix + "blocks.0.ls1.scale_factor" in tensors,
                attn_pool=prefix + "attn_pool.latent" in tensors,
            )

        rows, hidden = shape("language_model.model.embed_tokens.weight")
        pad = config["pad_to_multiple_of"]
        sizes = cls(
            vocab=rows - pad,
            pad_to_multiple_of=pad,
            pad_id=config.get("pad_token_id", rows - pad),
            mask_id=config.get("mask_token_id", rows - pad + 1),
            image=config["image_sizes"][0],
            patch=shape("vision_backbone.featurizer.patch_embed.proj.weight")[2],
            images=images,
            hidden=hidden,
            layers=depth("language_model.model.layers."),
            heads=text.get("num_attention_heads", 32),
            intermediate=shape("language_model.model.layers.0.mlp.gate_proj.weight")[0],
            eps=text.get("rms_norm_eps", 1e-6),
            rope_theta=text.get("rope_theta", 10000.0),
            proprio=shape("proprio_projector.fc1.weight")[1] if "proprio_projector.fc1.weight" in tensors else 0,
            slots=slots,
            dino=vit("vision_backbone.featurizer.", 0),
            siglip=vit("vision_backbone.fused_featurizer.", 1),
        )
        if not sizes.vocab <= sizes.mask_id < rows:
            raise ValueError(f"mask_token_id {sizes.mask_id} is not one of the padding rows {sizes.vocab}..{rows - 1}")
        return sizes


class LayerScale(nn.Module):
    # Published as `scale_factor`: Hugging Face's loader renames anything that ends in `gamma`.
    def __init__(self, dim):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.scale_factor


class VisionAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))


class VisionMLP(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class VisionBlock(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.attn = VisionAttention(sizes.dim, sizes.heads)
        self.norm2 = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.mlp = VisionMLP(sizes.dim, sizes.mlp)
        self.ls1 = LayerScale(sizes.dim) if sizes.layer_scale else None
        self.ls2 = LayerScale(sizes.dim) if sizes.layer_scale else None

    def forward(self, x, mutate=None):
        a = self.attn(self.norm1(x))
        x = x + (self.ls1(a) if self.ls1 is not None and mutate != "no_layerscale" else a)
        m = self.mlp(self.norm2(x))
        return x + (self.ls2(m) if self.ls2 is not None and mutate != "no_layerscale" else m)


class PatchEmbed(nn.Module):
    def __init__(self, dim, patch):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x):
        """[B, S, S, 3] to [B, patches, dim], patches row by row.

        A convolution whose stride is its width is one matrix product.
        """
        batch, side = x.shape[0], x.shape[1] // self.patch
        x = x.reshape(batch, side, self.patch, side, self.patch, 3).permute(0, 1, 3, 5, 2, 4)
        weight = lora.weight_of(self.proj).flatten(1)
        return F.linear(x.reshape(batch, side * side, -1), weight, self.proj.bias)


class AttentionPool(nn.Module):
    """SigLIP's pooling head: in every published checkpoint, used by none."""

    def __init__(self, dim, mlp):
        super().__init__()
        self.latent = nn.Parameter(torch.zeros(1, 1, dim))
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = VisionMLP(dim, mlp)


class ViT(nn.Module):
    """Vision transformer whose features are the patches of the last block but one, without norm."""

    def __init__(self, sizes, image, patch):
        super().__init__()
        if sizes.cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.dim))
        if sizes.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.registers, sizes.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2, sizes.dim))
        self.patch_embed = PatchEmbed(sizes.dim, patch)
        self.blocks = nn.ModuleList(VisionBlock(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        if sizes.attn_pool:
            self.attn_pool = AttentionPool(sizes.dim, sizes.mlp)
        self.cls, self.registers, self.recompute = sizes.cls, sizes.registers, False

    def forward(self, x, mutate=None):
        """[B, S, S, 3] normalised pixels to [B, patches, dim]."""
        x = self.patch_embed(x) + self.pos_embed
        prefix = []
        if self.cls:
            prefix.append(self.cls_token.expand(x.shape[0], -1, -1))
        if self.registers and mutate != "no_registers":
            prefix.append(self.reg_token.expand(x.shape[0], -1, -1))
        count = sum(p.shape[1] for p in prefix)
        x = torch.cat(prefix + [x], dim=1) if prefix else x
        for block in self.blocks if mutate == "last_block" else self.blocks[:-1]:
            x = run(self.recompute, block, x, mutate)
        if mutate == "vision_norm":
            x = self.norm(x)
        return x[:, count:]


class VisionBackbone(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.featurizer = ViT(sizes.dino, sizes.image, sizes.patch)
        self.fused_featurizer = ViT(sizes.siglip, sizes.image, sizes.patch)


class Projector(nn.Module):
    """Fused vision features to the Llama's width; three layers with GELU between."""

    def __init__(self, vision, hidden):
        super().__init__()
        self.fc1 = nn.Linear(vision, 4 * vision)
        self.fc2 = nn.Linear(4 * vision, hidden)
        self.fc3 = nn.Linear(hidden, hidden)

    def forward(self, x):
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))


class ProprioProjector(nn.Module):
    def __init__(self, proprio, hidden):
        super().__init__()
        self.fc1 = nn.Linear(proprio, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x, weight, eps):
    if x.device.type == "cuda" and x.dtype == weight.dtype == torch.float32 and hasattr(F, "rms_norm"):
        return F.rms_norm(x, weight.shape, weight, eps)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def rope_tables(positions, dim, theta):
    """cos and sin [..., tokens, dim] of Llama's half-rotation RoPE."""
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / dim)
    angles = positions.float().unsqueeze(-1) * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin, mutate=None):
    if mutate == "rope_interleaved":
        half = cos.shape[-1] // 2
        cos = cos[..., :half].repeat_interleave(2, dim=-1)
        sin = sin[..., :half].repeat_interleave(2, dim=-1)
        turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
    else:
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return x * cos + turned * sin


if hasattr(torch, "get_autocast_dtype"):  # PyTorch 2.4

    def autocast_dtype(kind):
        """What autocast multiplies matrices in on a kind of device, None where it is off."""
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

else:

    def autocast_dtype(kind):
        """What autocast multiplies matrices in on a kind of device, None where it is off."""
        if kind == "cuda":
            return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None


def narrow(x):
    """x as autocast would make it for every one of the products that it goes into, once for all of them."""
    dtype = autocast_dtype(x.device.type)
    return x if dtype is None else x.to(dtype)


def run(recompute, module, *inputs):
    """A layer's output; with recompute its inside is not kept for the gradient but computed again."""
    if recompute and torch.is_grad_enabled():
        return recomputed(module, *inputs, use_reentrant=False)
    return module(*inputs)


class LlamaAttention(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.heads = sizes.heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(sizes.hidden, sizes.hidden, bias=False))

    def forward(self, x, cos, sin, bias, rows, mutate):
        batch, tokens, dim = x.shape

        def heads(y):
            return y.view(batch, -1, self.heads, dim // self.heads).transpose(1, 2)

        if rows is None:
            queries, cos_q, sin_q = x, cos, sin
        else:
            queries, cos_q, sin_q = take(x, rows), take(cos, rows, batch), take(sin, rows, batch)
        q = rotate(heads(self.q_proj(queries)), cos_q.unsqueeze(-3), sin_q.unsqueeze(-3), mutate)
        k = rotate(heads(self.k_proj(x)), cos.unsqueeze(-3), sin.unsqueeze(-3), mutate)
        v = heads(self.v_proj(x))
        return self.o_proj(attend(q, k, v, bias).transpose(1, 2).reshape(batch, -1, dim))


class LlamaMLP(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.gate_proj = nn.Linear(sizes.hidden, sizes.intermediate, bias=False)
        self.up_proj = nn.Linear(sizes.hidden, sizes.intermediate, bias=False)
        self.down_proj = nn.Linear(sizes.intermediate, sizes.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class LlamaLayer(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.self_attn = LlamaAttention(sizes)
        self.mlp = LlamaMLP(sizes)
        self.input_layernorm = RMSNorm(sizes.hidden, sizes.eps)
        self.post_attention_layernorm = RMSNorm(sizes.hidden, sizes.eps)

    def forward(self, x, cos, sin, bias=None, rows=None, mutate=None):
        """With rows [B, R] only those rows are computed; all tokens are still attended to."""
        residual = x if rows is None else take(x, rows)
        x = residual + self.self_attn(narrow(self.input_layernorm(x)), cos, sin, bias, rows, mutate)
        return x + self.mlp(narrow(self.post_attention_layernorm(x)))


class LlamaModel(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.rows, sizes.hidden)
        self.layers = nn.ModuleList(LlamaLayer(sizes) for _ in range(sizes.layers))
        self.norm = RMSNorm(sizes.hidden, sizes.eps)


class Llama(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.model = LlamaModel(sizes)
        self.lm_head = nn.Linear(sizes.hidden, sizes.rows, bias=False)


def take(x, rows, batch=None):
    """Rows [B, R] of [B, tokens, D]; x may lack the batch dimension."""
    if x.dim() == 2:
        x = x.expand(batch, -1, -1)
    return torch.gather(x, 1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class DDVLA(nn.Module):
    """A whole policy network. `mean` and `std` hold the two image normalisations, [2, 3].

    attention is the kind that it is trained with: "bidirectional", every token sees every token; "prefix", what
    stands before the action block (the last real prompt token, the slots and the stop) does not see the block,
    which sees everything; "causal", every token sees itself and what stands before it. action_head, where there is
    one, makes values of the slots' hidden states.
    """

    def __init__(self, sizes, mean, std, attention="bidirectional", action_head=None):
        super().__init__()
        self.sizes, self.attention, self.recompute = sizes, attention, False
        self.vision_backbone = VisionBackbone(sizes)
        self.projector = Projector(sizes.dino.dim + sizes.siglip.dim, sizes.hidden)
        self.language_model = Llama(sizes)
        self.proprio_projector = ProprioProjector(sizes.proprio, sizes.hidden) if sizes.proprio else None
        self.action_head = action_head
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)

    def save_memory(self, recompute=True):
        """Keeps no more of a training step than every layer's input, and computes the rest a second time."""
        self.recompute = recompute
        for tower in (self.vision_backbone.featurizer, self.vision_backbone.fused_featurizer):
            tower.recompute = recompute

    def dead_parameters(self):
        """Names of what every published checkpoint has and nothing uses: it gets no gradient."""
        vision = self.vision_backbone
        for tower, depth in ((vision.featurizer, self.sizes.dino.depth), (vision.fused_featurizer, self.sizes.siglip.depth)):
            for name, _ in tower.named_parameters():
                if name.startswith((f"blocks.{depth - 1}.", "norm.", "attn_pool.")):
                    prefix = "featurizer" if tower is vision.featurizer else "fused_featurizer"
                    yield f"vision_backbone.{prefix}.{name}"

    def prefix(self, images, proprio, mutate=None):
        """What no action token changes: projected patches and the proprio token, [B, NP, hidden].

        images [B, N, S, S, 3] are 0..255, of any type.
        """
        batch, count = images.shape[:2]
        if mutate == "image_order":
            images = images.flip(1)
        pixels, dtype = images.flatten(0, 1).float() / 255, self.projector.fc1.weight.dtype
        vision = self.vision_backbone
        dino = vision.featurizer(((pixels - self.mean[0]) / self.std[0]).to(dtype), mutate)
        siglip = vision.fused_featurizer(((pixels - self.mean[1]) / self.std[1]).to(dtype), mutate)
        tokens = self.projector(torch.cat([dino, siglip], dim=-1)).view(batch, count * dino.shape[1], -1)
        if self.proprio_projector is not None and mutate != "no_proprio":
            tokens = torch.cat([tokens, self.proprio_projector(proprio.to(dtype)).unsqueeze(1)], dim=1)
        return tokens

    def states(self, prefix, prompt_ids, prompt_length, tokens, mutate=None, attention=None, padded=None):
        """Hidden states [B, L, hidden], float32 after the final norm, that all action positions are read from.

        tokens None: the slots hold zeros, as those of an action head do. attention None: the network's own.
        padded: whether some prompts are shorter than prompt_ids; None looks, which waits for a GPU.
        """
        sizes, model, attention = self.sizes, self.language_model.model, attention or self.attention
        batch, prompt, slots = prompt_ids.shape[0], prompt_ids.shape[1], sizes.slots if tokens is None else tokens.shape[1]
        if tokens is None:
            embedded = model.embed_tokens(torch.cat([prompt_ids, torch.full_like(prompt_ids[:, :1], STOP_ID)], dim=1))
            zeros = embedded.new_zeros(batch, slots, sizes.hidden)
            embedded = torch.cat([embedded[:, :-1], zeros, embedded[:, -1:]], dim=1)
        else:
            mask_id = sizes.mask_id + (mutate == "mask_row")
            ids = torch.where(tokens < 0, torch.full_like(tokens, mask_id), self.bin_id(tokens, mutate))
            ids = torch.cat([prompt_ids, ids, torch.full_like(ids[:, :1], STOP_ID)], dim=1)
            embedded = model.embed_tokens(ids)
        x = torch.cat([embedded[:, :1], prefix, embedded[:, 1:]], dim=1)
        columns, first = x.shape[1], prefix.shape[1] + prompt  # first: column of slot 0
        column, compute = torch.arange(columns, device=x.device), autocast_dtype(x.device.type) or x.dtype
        positions, bias = column, None
        if padded is None:
            padded = bool((prompt_length != prompt).any())
        if padded:
            end = (prefix.shape[1] + prompt_length).unsqueeze(1)  # one past the last real prompt token
            padding = (column >= end) & (column < first)
            positions = torch.where(column < first, column, column - (first - end))
            bias = x.new_zeros(batch, 1, 1, columns, dtype=compute).masked_fill(padding[:, None, None], -math.inf)
        if mutate == "causal":
            future = x.new_full((columns, columns), -math.inf).triu(1)
            bias = future if bias is None else bias + future
        if attention != "bidirectional":
            unseen = self.unseen(attention, prefix.shape[1] + prompt_length - 1, first, columns)
            unseen = x.new_zeros(unseen.shape, dtype=compute).masked_fill(unseen, -math.inf)
            bias = unseen if bias is None else bias + unseen
        # The logits of a slot are read at the token before it: the last prompt token for slot 0.
        rows = first + torch.arange(slots, device=x.device).expand(batch, -1)
        if mutate != "no_shift":
            last = (prefix.shape[1] + prompt_length - 1).unsqueeze(1)
            rows = torch.cat([last, rows[:, :-1]], dim=1)
        cos, sin = (t.to(compute) for t in rope_tables(positions, sizes.hidden // sizes.heads, sizes.rope_theta))
        for layer in model.layers[:-1]:
            x = run(self.recompute, layer, x, cos, sin, bias, None, mutate)
        if mutate == "causal" or attention != "bidirectional":
            x = take(run(self.recompute, model.layers[-1], x, cos, sin, bias, None, mutate), rows)
        else:
            x = run(self.recompute, model.layers[-1], x, cos, sin, bias, rows, mutate)
        return model.norm(x.float())

    def denoise(self, prefix, prompt_ids, prompt_length, tokens, mutate=None, attention=None, padded=None):
        """Logits [B, L, 256] in bin order of all action positions, from one pass over the sequence; arguments of
        states."""
        states = self.states(prefix, prompt_ids, prompt_length, tokens, mutate, attention, padded)
        sizes = self.sizes
        with torch.autocast(states.device.type, enabled=False):
            head = lora.weight_of(self.language_model.lm_head)[sizes.vocab - BINS : sizes.vocab]
            if mutate != "bin_order":
                head = head.flip(0)
            return F.linear(states, head.float())

    def values(self, prefix, prompt_ids, prompt_length, padded=None):
        """The action head's values [B, L], normalised, float32."""
        states = self.states(prefix, prompt_ids, prompt_length, None, padded=padded)
        with torch.autocast(states.device.type, enabled=False):
            return self.action_head(states)

    @staticmethod
    def unseen(attention, last, first, columns):
        """[B or 1, 1, columns, columns]: which column (last axis) a row does not see.

        last [B] is the column of the last real prompt token, first that of slot 0.
        """
        column = torch.arange(columns, device=last.device)
        if attention == "causal":
            return (column > column.unsqueeze(1))[None, None]
        if attention != "prefix":
            raise ValueError(f"attention {attention!r} is none of bidirectional, prefix and causal")
        block = (column == last.unsqueeze(1)) | (column >= first)
        return (block.unsqueeze(1) & ~block.unsqueeze(2)).unsqueeze(1)

    def bin_id(self, bins, mutate=None):
        """Bin k is token V - 1 - k: values rise with k and fall with the id."""
        if mutate == "bin_order":
            return self.sizes.vocab - BINS + bins
        return self.sizes.vocab - 1 - bins

    def forward(self, images, prompt_ids, prompt_length, proprio, tokens, mutate=None, attention=None):
        return self.denoise(self.prefix(images, proprio, mutate), prompt_ids, prompt_length, tokens, mutate, attention)

    @torch.no_grad()
    def logits(self, images_uint8, prompt_ids, prompt_length, proprio, tokens, mutate=None, attention=None):
        """The contract of the step graph.

        images_uint8 [B, N, S, S, 3] RGB; prompt_ids [B, P] with BOS and the trailing empty token, pads
        on the right; prompt_length [B] counts BOS; proprio [B, Dp] normalised (ignored when the model
        has none); tokens [B, L] bins 0..255, or -1 where masked. Returns [B, L, 256] float32, bin k
        being token V - 1 - k. mutate: None, or a key of MUTATIONS. attention: another than the network's.
        """
        if mutate is not None and mutate not in MUTATIONS:
            raise ValueError(f"mutate {mutate!r} is none of {sorted(MUTATIONS)}")
        return self(images_uint8, prompt_ids, prompt_length, proprio, tokens, mutate, attention)

    def save(self, directory, dtype=torch.bfloat16, shards=1):
        """Writes what write does to a directory, in place of what it has of another save."""
        with checkpoint.Files(directory) as files:
            self.write(files, dtype, shards)

    def write(self, files, dtype=torch.bfloat16, shards=1):
        """Writes config.json, preprocessor_config.json, the files of what stands beside the model, and last the
        weights, to checkpoint.Files. Adapters are merged."""
        config = self.sizes.config()
        if self.attention != "bidirectional":
            config["attention"] = self.attention  # our own key, which the exporter reads
        files.json("config.json", config)
        side = self.sizes.image
        files.json(
            "preprocessor_config.json",
            {
                "image_processor_type": "PrismaticImageProcessor",
                "processor_class": "PrismaticProcessor",
                "use_fused_vision_backbone": True,
                "image_resize_strategy": "resize-naive",
                "input_sizes": [[3, side, side]] * 2,
                "interpolations": ["bicubic", "bicubic"],
                "means": self.mean.tolist(),
                "stds": self.std.tolist(),
                "tvf_normalize_params": [
                    {"inplace": False, "mean": mean, "std": std}
                    for mean, std in zip(self.mean.tolist(), self.std.tolist())
                ],
            },
        )
        state = lora.merged(self, dtype)
        for part in PARTS:
            own = {n.split(".", 1)[1]: state.pop(n) for n in list(state) if n.startswith(part + ".")}
            if own:
                files.safetensors(part + ".safetensors", own)
            else:
                files.remove(part + ".safetensors")
        files.weights(state, shards)


IMAGE_MEAN = [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]
IMAGE_STD = [[0.229, 0.224, 0.225], [0.5, 0.5, 0.5]]
PARTS = ("proprio_projector", "action_head")  # in files of their own


def read_part(directory, part):
    """{name: tensor} of a file beside the weights, PART.safetensors or openvla-oft's PART--STEP_checkpoint.pt; None
    where there is none."""
    names = [n for n in sorted(os.listdir(directory)) if n == part + ".safetensors" or n.startswith(part + "--") and n.endswith(".pt")]
    if len(names) > 1:
        raise ValueError(f"{directory}: which of {', '.join(names)} belongs to the weights? Move the others away")
    if not names:
        return None
    path = os.path.join(directory, names[0])
    if path.endswith(".safetensors"):
        return checkpoint.read_safetensors(path)
    # Distributed training leaves the prefix.
    tensors = torch.load(path, map_location="cpu", **checkpoint.TENSORS_ALONE)
    return {name[len("module.") :] if name.startswith("module.") else name: tensor for name, tensor in tensors.items()}


@contextlib.contextmanager
def made_in(dtype):
    """Parameters are made in dtype at once: a large network in float32 first may not fit the memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def refuse_film(directory):
    """Towers that openvla-oft has fine-tuned with FiLM are in a file of their own, beside others in the weights."""
    for name in sorted(os.listdir(directory)):
        if name.startswith("vision_backbone--"):
            path = os.path.join(directory, name)
            raise ValueError(f"{path}: vision towers with FiLM, which cannot be trained on; start from a checkpoint without")


def load(directory, images, slots, dtype=torch.float32):
    """Reads a checkpoint directory in the published layout, of any size and float dtype, as dtype."""
    refuse_film(directory)
    config = checkpoint.read_json(os.path.join(directory, "config.json"))
    tensors = checkpoint.read_weights(directory)
    proprio, head = (read_part(directory, part) for part in PARTS)
    if proprio:
        tensors.update({"proprio_projector." + n: t for n, t in proprio.items()})
    sizes = Sizes.of_checkpoint(config, tensors, images, slots)
    norm = checkpoint.read_json(os.path.join(directory, "preprocessor_config.json"))["tvf_normalize_params"]
    if head:
        tensors.update({"action_head." + n: t for n, t in head.items()})
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    with made_in(dtype):
        model = DDVLA(
            sizes,
            [entry["mean"] for entry in norm],
            [entry["std"] for entry in norm],
            config.get("attention") or "bidirectional",
            ActionHead.of_tensors(head, sizes.hidden) if head else None,
        )
    model.load_state_dict(tensors, strict=True)
    return model.eval()
