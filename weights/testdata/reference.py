"""Makes random checkpoints and runs the PyTorch network on random observations.

    reference.py TRAIN_DIRECTORY < jobs.json

jobs.json is a list of {"dir", "args" of make_random.py, "cases": [{"batch", "prompt", "mutations"}]};
without args the checkpoint is "trained", a directory, for "images" and "slots". Each case becomes
DIR/case-N.safetensors: the inputs, the logits, the tokens decoded from left to right with causal attention
and with bidirectional ("autoregressive", with the gap of the two largest logits of each), what each stage of the network gave ("stage.dino" ...), the
logits with each other kind of attention and those of each mutation, and the logarithm of the denominator over the whole vocabulary, all float32 (the integers among them are exact).

A job with "lora": {"r", "alpha", "rslora", "dtype"} makes a random adapter in DIR-adapter as PEFT
saves it, and DIR/lora.safetensors with the logits of the network that applies it beside its layers,
without merging: every linear layer but the proprio projector's, the patch convolutions and lm_head.
Its adapter_model.bin, as older versions of PEFT save it, is in DIR-side, with the proprio projector
as openvla-oft saves it: the state_dict of a module that distributed training has wrapped.

A job with "film": {"r", "dtype", "distributed"} makes the vision towers of a fine-tune with FiLM (film.py) and
saves them in DIR-film as openvla-oft does. DIR/film.safetensors has the logits with lora_alpha
min(r, 16), those with the scale of "lora" (".config"), and those of each mutation.

A job with "head": {"inner", "depth"} makes an L1 action head (head.py) in DIR-side, and DIR/head.safetensors
with the values that it predicts and those of each mutation.
"""

import contextlib
import io
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import film  # noqa: E402
import head  # noqa: E402
import make_random  # noqa: E402
from ddvla import checkpoint, model  # noqa: E402

def log_denominators(net, inputs):
    """Logarithms of the softmax denominator over ids 0..V-1, and, wrongly, with the padding rows."""
    hidden = {}
    handle = net.language_model.model.norm.register_forward_hook(lambda module, i, output: hidden.update(last=output))
    net.logits(*inputs)
    handle.remove()
    with torch.no_grad():
        everything = F.linear(hidden["last"].double(), net.language_model.lm_head.weight.double())
    return everything[..., : net.sizes.vocab].logsumexp(-1).float(), everything.logsumexp(-1).float()


def left_to_right(net, inputs, attention):
    """The most probable bins, one pass over the whole sequence for each, and how clear each was."""
    tokens = torch.full_like(inputs[4], -1)
    gaps = torch.zeros(tokens.shape)
    for i in range(tokens.shape[1]):
        best = net.logits(*inputs[:4], tokens, attention=attention)[:, i].topk(2)
        tokens[:, i] = best.indices[:, 0]
        gaps[:, i] = best.values[:, 0] - best.values[:, 1]
    return tokens.float(), gaps


def stages(net, inputs):
    """What each stage gives on its way to the logits: the last layer of the Llama its slots' rows alone."""
    vision, llama = net.vision_backbone, net.language_model.model
    modules = {"dino": vision.featurizer, "siglip": vision.fused_featurizer, "projector": net.projector}
    modules |= {f"llama/{i}": layer for i, layer in enumerate(llama.layers)}
    if net.proprio_projector is not None:
        modules["proprio"] = net.proprio_projector
    seen = {}

    def keep(name):
        return lambda module, args, output: seen.update({"stage." + name: output.contiguous()})

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    net.logits(*inputs)
    for handle in handles:
        handle.remove()
    return seen


LORA_MUTATIONS = {
    "alpha": "the scale is alpha/r twice over",
    "rslora": "the scale is alpha/sqrt(r) instead of alpha/r, or the other way round",
    "no_conv": "the patch convolutions go without",
    "no_head": "lm_head goes without",
    "no_llama": "the layers of the Llama go without",
    "no_vision": "the linear layers of the towers and the projector go without",
}


def adapted(net):
    """The modules that PEFT 0.11 wraps with target_modules "all-linear" and the suffix rule."""
    for name, module in net.named_modules():
        linear = isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
        if linear and not name.startswith("proprio_projector"):
            yield name, module


def make_adapter(net, directory, job):
    generator = torch.Generator().manual_seed(99)
    tensors, rank = {}, job["r"]
    for name, module in adapted(net):
        out, *inputs = module.weight.shape
        a = torch.randn(rank, *inputs, generator=generator) * module.weight[0].numel() ** -0.5
        b = torch.randn(out, rank, *[1] * (len(inputs) - 1), generator=generator) * 0.15
        dtype = make_random.DTYPES[job["dtype"]]
        tensors[name] = (a.to(dtype), b.to(dtype))
    os.makedirs(directory)
    pairs = [(f"base_model.model.{n}.lora_{part}.weight", t) for n, ab in tensors.items() for part, t in zip("AB", ab)]
    checkpoint.write_safetensors(os.path.join(directory, "adapter_model.safetensors"), dict(pairs))
    torch.save(dict(pairs), os.path.join(directory.removesuffix("-adapter") + "-side", "adapter_model.bin"))
    leaves = sorted({name.rsplit(".", 1)[-1] for name in tensors})
    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": job["alpha"], "use_rslora": job["rslora"], "use_dora": False,
        "target_modules": leaves, "bias": "none", "fan_in_fan_out": False, "init_lora_weights": "gaussian",
        "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}, "lora_dropout": 0.0, "layers_to_transform": None,
        "base_model_name_or_path": "base", "inference_mode": True, "task_type": None,
    }  # fmt: skip
    checkpoint.write_json(os.path.join(directory, "adapter_config.json"), config)
    return {name: (a.float(), b.float()) for name, (a, b) in tensors.items()}


@contextlib.contextmanager
def applied(net, tensors, job, mutation=None):
    """Runs the network with scale * B(A(x)) added to the outputs of its layers."""
    root = job["rslora"] != (mutation == "rslora")
    scale = job["alpha"] / (job["r"] ** 0.5 if root else job["r"]) * (2 if mutation == "alpha" else 1)
    undo, hidden = [], {}

    def linear(a, b):
        return lambda module, inputs, output: output + scale * F.linear(F.linear(inputs[0], a), b)

    def patches(a, b):
        def forward(module, inputs, output):
            pixels = inputs[0].permute(0, 3, 1, 2)
            added = F.conv2d(F.conv2d(pixels, a, stride=module.patch), b)
            return output + scale * added.flatten(2).transpose(1, 2)

        return forward

    for name, module in adapted(net):
        group = "llama" if name.startswith("language_model") else "vision"
        if isinstance(module, torch.nn.Conv2d):
            # PatchEmbed multiplies with the kernel and never calls the convolution.
            if mutation != "no_conv":
                undo.append(net.get_submodule(name.rsplit(".", 1)[0]).register_forward_hook(patches(*tensors[name])))
        elif name != "language_model.lm_head" and mutation != "no_" + group:
            undo.append(module.register_forward_hook(linear(*tensors[name])))
    norm = net.language_model.model.norm
    undo.append(norm.register_forward_hook(lambda module, inputs, output: hidden.update(last=output)))

    def logits(*inputs):
        plain = net.logits(*inputs)
        if mutation == "no_head":
            return plain
        a, b = tensors["language_model.lm_head"]
        sizes = net.sizes
        rows = b[sizes.vocab - model.BINS : sizes.vocab].flip(0)
        return plain + scale * F.linear(F.linear(hidden["last"], a), rows)

    try:
        yield logits
    finally:
        for handle in undo:
            handle.remove()


class Distributed(torch.nn.Module):
    """Names its module's tensors as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def film_results(net, directory, job):
    rank, dtype = job["film"]["r"], make_random.DTYPES[job["film"]["dtype"]]
    inputs = make_random.observation(net.sizes, 300, 3, 7)
    results = {name: tensor.float() for name, tensor in zip(names, inputs)}
    results["logits.base"] = net.logits(*inputs)
    with torch.no_grad():
        settings = film.wrap(net, rank, dtype, 77)
        state = film.state_dict(net, dtype)
        if job["film"]["distributed"]:
            state = {"module." + name: tensor for name, tensor in state.items()}
        os.makedirs(directory + "-film")
        torch.save(state, os.path.join(directory + "-film", "vision_backbone--150000_checkpoint.pt"))
        scale = min(rank, 16) / max(rank, 1)
        for mutation in [None, *film.MUTATIONS]:
            if mutation != "base":
                name = "logits" + ("." + mutation if mutation else "")
                results[name] = film.logits(net, settings, inputs, scale, mutation)
        results["logits.scale"] = film.logits(net, settings, inputs, 32 / max(rank, 1))
        lora = job["lora"]
        configured = lora["alpha"] / (lora["r"] ** 0.5 if lora["rslora"] else lora["r"])
        results["logits.config"] = film.logits(net, settings, inputs, configured)
    checkpoint.write_safetensors(os.path.join(directory, "film.safetensors"), results)


def head_results(net, directory, job, dims):
    action_head = head.Head(net.sizes.hidden, job["inner"], job["depth"], dims, 55)
    path = os.path.join(directory + "-side", "action_head--150000_checkpoint.pt")
    torch.save(Distributed(action_head).state_dict(), path)
    inputs = make_random.observation(net.sizes, 400, 3, 6)
    results = {name: tensor.float() for name, tensor in zip(names, inputs)}
    with torch.no_grad():
        for mutation in [None, *head.MUTATIONS]:
            results["values" + ("." + mutation if mutation else "")] = head.values(net, action_head, inputs, mutation)
    checkpoint.write_safetensors(os.path.join(directory, "head.safetensors"), results)


torch.set_num_threads(1)
for job in json.load(sys.stdin):
    sizes, directory = job, job["trained"]
    if not directory:
        directory, printed = job["dir"], io.StringIO()
        sys.argv[1:] = ["--out", directory] + job["args"]
        with contextlib.redirect_stdout(printed):
            make_random.main()
        sizes = json.loads(printed.getvalue())
    os.makedirs(job["dir"], exist_ok=True)
    net = model.load(directory, sizes["images"], sizes["slots"])
    for number, case in enumerate(job["cases"]):
        inputs = make_random.observation(net.sizes, 100 + number, case["batch"], case["prompt"])
        names = ["images", "prompt_ids", "prompt_length", "proprio", "tokens"]
        tensors = {name: tensor.float() for name, tensor in zip(names, inputs)}
        tensors["logits"] = net.logits(*inputs)
        tensors |= stages(net, inputs)
        tensors["log_denominator"], tensors["log_denominator.padding"] = log_denominators(net, inputs)
        for kind in ("prefix", "causal"):
            tensors["logits." + kind] = net.logits(*inputs, attention=kind)
            tensors[f"logits.{kind}.no_shift"] = net.logits(*inputs, attention=kind, mutate="no_shift")
        if sizes["slots"] < 50:
            tensors["autoregressive"], tensors["autoregressive.gaps"] = left_to_right(net, inputs, "causal")
            tensors["autoregressive.bidirectional"], _ = left_to_right(net, inputs, "bidirectional")
        for mutation in case["mutations"]:
            tensors["logits." + mutation] = net.logits(*inputs, mutate=mutation)
        checkpoint.write_safetensors(os.path.join(job["dir"], f"case-{number}.safetensors"), tensors)
    os.makedirs(job["dir"] + "-side")
    if net.sizes.proprio:
        path = os.path.join(job["dir"] + "-side", "proprio_projector--150000_checkpoint.pt")
        torch.save(Distributed(net.proprio_projector).state_dict(), path)
    if job["lora"]:
        tensors = make_adapter(net, job["dir"] + "-adapter", job["lora"])
        inputs = make_random.observation(net.sizes, 200, 2, 6)
        results = {name: tensor.float() for name, tensor in zip(names, inputs)}
        for mutation in [None, *LORA_MUTATIONS]:
            with applied(net, tensors, job["lora"], mutation) as logits:
                results["logits" + ("." + mutation if mutation else "")] = logits(*inputs)
        checkpoint.write_safetensors(os.path.join(job["dir"], "lora.safetensors"), results)
    if job["head"]:
        head_results(net, job["dir"], job["head"], int(sizes["dims"]))
    if job["film"]:
        film_results(net, job["dir"], job)
