"""Measures how fast PyTorch runs a policy network of random weights, part by part and whole chunks.

    python3 train/bench.py --size 7b --device cuda --dtype bf16 --json out.json

A GPU is timed by its own events, each run alone, after a warm-up; a CPU by the clock. Modes: eager; graph, a
CUDA graph of the same operations; compiled, torch.compile of each layer, in a CUDA graph too. A chunk is from
uint8 pictures in the machine's memory to tokens and their means there: copies, vision, rounds and decoding
(greedy), but no resizing of pictures. Before anything is timed, rounds are compared with model.py in the same
type. Beside the graphs stand rounds whose attention is in parts, its scores in the memory, and what the linear
layers take alone.
Needs PyTorch 2.6 or newer on a GPU.
"""

import argparse
import contextlib
import json
import time

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ddvla import attention, decode, model
from ddvla.rounds import Rounds

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# The most that a round may differ from model.py, as a share of the logits' size.
MOST = {"bf16": 0.1, "fp16": 0.02, "fp32": 1e-3}
PROMPT = 21  # ids of a usual instruction
WARM_UP = 3
MODES = ["eager", "graph", "compiled"]
IN_PARTS, LINEAR = "graph, attention in parts", "graph, linear layers alone"


def sizes(name, cameras):
    """tiny: policies/tiny-reach. 7b: OpenVLA-7B, chunks of 12 rows of 14 numbers."""
    if name == "tiny":
        return model.Sizes(images=cameras)
    return model.Sizes(
        vocab=32000, pad_id=32000, mask_id=32001, image=224, patch=14, images=cameras,
        hidden=4096, layers=32, heads=32, intermediate=11008, proprio=14, slots=12 * 14,
        dino=model.ViTSizes(1024, 24, 16, 4096, registers=4, cls=True, layer_scale=True),
        siglip=model.ViTSizes(1152, 27, 16, 4304, attn_pool=True),
    )  # fmt: skip


def random_network(sizes, device, dtype, seed):
    """Made on the device in its type: nothing of float32's size is ever there."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with contextlib.nullcontext() if device.type == "cpu" else device:
            net = model.DDVLA(sizes, model.IMAGE_MEAN, model.IMAGE_STD).eval()
    finally:
        torch.set_default_dtype(default)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if name.endswith(("norm.weight", "layernorm.weight", "norm1.weight", "norm2.weight")):
                tensor.fill_(1)
            elif name.endswith("bias"):
                tensor.zero_()
            elif name.endswith("scale_factor"):
                tensor.fill_(0.5)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
    return net


def compiled(function):
    torch._dynamo.config.recompile_limit = 64  # one for each shape of a layer, without which it gives up silently
    return torch.compile(function, dynamic=False)


def difference(have, want):
    """|have - want| / |want|."""
    return float((have - want).double().norm() / want.double().norm())


class Linear(TorchFunctionMode):
    """Records the shapes and weights of linear layers that run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, arguments=(), named=None):
        if function is F.linear:
            self.seen.append((arguments[0].shape, arguments[1]))
        return function(*arguments, **(named or {}))


def linear_layers(run):
    """The linear layers of run alone, one after the other on inputs of noise."""
    with Linear() as linear:
        run()
    inputs = {}
    for shape, weight in linear.seen:
        if (shape, weight.dtype) not in inputs:
            inputs[shape, weight.dtype] = torch.randn(shape, device=weight.device).to(weight.dtype)

    def layers():
        for shape, weight in linear.seen:
            F.linear(inputs[shape, weight.dtype], weight)

    return layers


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.device, self.dtype = torch.device(arguments.device), DTYPES[arguments.dtype]
        self.gpu = self.device.type == "cuda"
        self.net = random_network(sizes(arguments.size, arguments.cameras), self.device, self.dtype, arguments.seed)
        of, batch = self.net.sizes, arguments.batch
        self.pictures = torch.randint(0, 256, (batch, of.images, of.image, of.image, 3), dtype=torch.uint8)
        self.state = torch.rand(batch, of.proprio) * 2 - 1
        if self.gpu:
            self.pictures, self.state = self.pictures.pin_memory(), self.state.pin_memory()
        self.images, self.proprio = self.pictures.to(self.device), self.state.to(self.device)
        self.ids = torch.randint(3, of.vocab - model.BINS, (batch, PROMPT)).to(self.device)
        self.masked = torch.full((batch, of.slots), -1, device=self.device)
        half = torch.rand(batch, of.slots) < 0.5
        self.tokens = torch.where(half, torch.tensor(-1), torch.randint(0, model.BINS, half.shape)).to(self.device)
        self.out = [torch.empty(x, dtype=t, pin_memory=self.gpu) for x, t in ((half.shape, torch.int64), (half.shape, torch.float32))]
        self.result, self.rows, self.peak, self.tokens_of = {}, [], {}, {}

    def asked(self, attention):
        return self.arguments.attention in (None, attention)

    def check(self):
        """How far rounds are from model.py in the same type; ends the program where that is too far."""
        rounds, lengths = Rounds(self.net, self.ids), torch.full((len(self.ids),), PROMPT, device=self.device)
        before, found = rounds.before(self.images, self.proprio), {}
        for name, kind in (("exact round", "bidirectional"), ("round of the block", "prefix")):
            want = self.net.logits(self.images, self.ids, lengths, self.proprio, self.tokens, attention=kind)
            have = rounds.whole(before, self.tokens) if kind == "bidirectional" else rounds.block(self.tokens, rounds.prefix(before))
            found[name] = difference(have, want)
            if not found[name] < MOST[self.arguments.dtype]:
                raise SystemExit(f"{name}: logits are {found[name]:.2g} of their size from model.py's, more than {MOST[self.arguments.dtype]}")
        return found

    def milliseconds(self, run):
        """The times of some runs, each alone, after a warm-up."""
        for _ in range(WARM_UP):
            run()
        times, begin = [], time.perf_counter()
        while len(times) < self.arguments.runs and (len(times) < 20 or time.perf_counter() - begin < self.arguments.seconds):
            if self.gpu:
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                torch.cuda.synchronize()
                start.record()
                run()
                end.record()
                end.synchronize()
                times.append(start.elapsed_time(end))
            else:
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
        return sorted(times)

    def measure(self, stage, mode, run):
        if mode != "eager":
            run = self.captured(run)
        self.out[0].fill_(-1)
        times = self.milliseconds(run)
        row = {"stage": stage, "mode": mode, "p50": quantile(times, 0.5), "p95": quantile(times, 0.95), "runs": len(times)}
        equal = ""
        if "T = " in stage:
            if self.out[0].min() < 0:
                raise SystemExit(f"{stage}, {mode}: a token is still masked")
            row["equal"] = float((self.out[0] == self.tokens_of.setdefault(stage, self.out[0].clone())).double().mean())
            equal = f"{100 * row['equal']:.0f} %"
        self.rows.append(row)
        self.save()
        print(f"| {stage} | {mode} | {row['p50']:.2f} | {row['p95']:.2f} | {row['runs']} | {equal} |", flush=True)

    def save(self):
        """After each row, so that a run that is ended leaves what it has."""
        if self.arguments.json:
            with open(self.arguments.json, "w") as file:
                json.dump({**self.result, "rows": self.rows, "peak_gb": self.peak}, file, indent=1)

    def captured(self, run):
        """run as a CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay

    def chunk(self, rounds, way, count):
        """From pictures to tokens and means, all in the machine's memory."""

        def run():
            self.images.copy_(self.pictures, non_blocking=True)
            self.proprio.copy_(self.state, non_blocking=True)
            logits = way(rounds.before(self.images, self.proprio))
            for out, result in zip(self.out, decode.denoise(logits, self.masked, count)):
                out.copy_(result, non_blocking=True)

        return run

    def all(self, mode):
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        compiler = compiled if mode == "compiled" else lambda function: function
        if mode == "compiled":
            vision = self.net.vision_backbone
            for block in [*vision.featurizer.blocks, *vision.fused_featurizer.blocks]:
                block.compile(dynamic=False)
        rounds, every = Rounds(self.net, self.ids, compiler=compiler), self.arguments.refresh
        for stage, run in self.stages(rounds):
            self.measure(stage, mode, run)
        counts = sorted({*self.arguments.rounds, 1}, reverse=True)
        if self.asked("bidirectional"):
            for count in counts:
                self.measure(f"exact, T = {count}", mode, self.chunk(rounds, rounds.exact, count))
            for count in counts[:-1]:
                self.measure(f"refresh {every}, T = {count}", mode, self.chunk(rounds, lambda b: rounds.refresh(b, every), count))
        if self.asked("prefix"):
            for count in counts:
                self.measure(f"prefix, T = {count}", mode, self.chunk(rounds, rounds.prefixed, count))
        if self.gpu:
            self.peak[mode] = torch.cuda.max_memory_allocated() / 1e9
        if mode == "graph":
            for stage, run in self.stages(Rounds(self.net, self.ids, attention.written_out)):
                if "round" in stage:
                    self.measure(stage, IN_PARTS, run)
            for stage, run in self.stages(rounds):
                self.measure(stage, LINEAR, linear_layers(run))

    def stages(self, rounds):
        """What a chunk is made of."""
        before = rounds.before(self.images, self.proprio)
        yield "vision and projectors", lambda: rounds.before(self.images, self.proprio)
        if self.asked("bidirectional"):
            yield "exact round", lambda: rounds.whole(before, self.tokens)
        if self.asked("prefix"):
            yield "prefix once", lambda: rounds.prefix(before)
        kept = rounds.prefix(before) if self.asked("prefix") else rounds.whole(before, self.tokens, keep=True)[1]
        yield "round of the block", lambda: rounds.block(self.tokens, kept)

    def ceilings(self):
        """What this card reaches: a copy of 4 GB, and products of 8192 x 8192 in the type."""
        a = torch.randn(1 << 30, device=self.device)
        b = torch.empty_like(a)
        copy = quantile(self.milliseconds(lambda: b.copy_(a)), 0.5)
        del a, b
        x, y = (torch.randn(8192, 8192, device=self.device).to(self.dtype) for _ in range(2))
        product = quantile(self.milliseconds(lambda: x @ y), 0.5)
        return {"copy_gb_s": 8 * (1 << 30) / copy / 1e6, "product_tflops": 2 * 8192**3 / product / 1e9}


def quantile(ordered, q):
    """The smallest of ordered numbers that a share q of them does not exceed."""
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["7b", "tiny"], default="7b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--attention", choices=["bidirectional", "prefix"], help="default both")
    parser.add_argument("--rounds", type=int, nargs="+", default=[12], help="numbers of rounds of a chunk; 1 is measured in any case")
    parser.add_argument("--refresh", type=int, default=4, help="a whole round, then the block alone until the next multiple of this")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default all on a GPU, eager on a CPU")
    parser.add_argument("--runs", type=int, default=50, help="of each row, at most")
    parser.add_argument("--seconds", type=float, default=3, help="of each row, after twenty runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="file for the results")
    arguments = parser.parse_args()
    gpu = torch.device(arguments.device).type == "cuda"
    if not gpu and arguments.modes not in (None, MODES[:1]):
        parser.error(f"--modes {' '.join(arguments.modes)} need a GPU")
    if min(arguments.rounds) < 1 or min(arguments.refresh, arguments.cameras, arguments.batch, arguments.runs) < 1:
        parser.error("numbers of rounds, cameras, chunks and runs are 1 or more")
    if gpu:
        # Float32 products are float32 ones, as the node asks ONNX Runtime for.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        bench = Bench(arguments)
        weights, of = sum(p.numel() for p in bench.net.parameters()), bench.net.sizes
        bench.result = result = {
            "machine": torch.cuda.get_device_name() if gpu else "CPU",
            "torch": torch.__version__, "cuda": torch.version.cuda, "dtype": arguments.dtype, "size": arguments.size, "weights": weights,
            "sizes": {"cameras": of.images, "batch": arguments.batch, "prompt": PROMPT, "slots": of.slots, "proprio": of.proprio},
            "check": bench.check(),
        }  # fmt: skip
        print(f"{result['machine']}, PyTorch {result['torch']}, {weights / 1e9:.3f} billion weights, {arguments.dtype}, {result['sizes']}")
        print(f"against model.py in the same type: {result['check']}")
        if gpu:
            result["ceilings"] = bench.ceilings()
            print(f"ceilings: {result['ceilings']}")
        print("\n| what | mode | ms, p50 | p95 | runs | tokens as in the first mode |\n|---|---|---|---|---|---|")
        for mode in MODES:  # in this order: what is compiled stays so
            if mode in (arguments.modes or (MODES if gpu else MODES[:1])):
                bench.all(mode)
        bench.save()
    if gpu:
        print("\nmost memory that PyTorch held, GB: " + ", ".join(f"{mode} {value:.1f}" for mode, value in bench.peak.items()))


if __name__ == "__main__":
    main()
