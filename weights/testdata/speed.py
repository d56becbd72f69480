"""The PyTorch network as a peer in a comparison of speed: it decodes when it is told to.

    speed.py TRAIN_DIRECTORY

Standard input is lines of JSON. The first is {"checkpoint", "images", "slots", "threads", "rounds"} and an
observation of one row: {"pixels" (base64), "prompt_ids", "proprio"}. Then each {"do": "run"} is answered by {"seconds",
"cpu", "bins"} of a chunk of preset greedy, and {"do": "flops"} by {"vision", "pass"}: the operations of matrix
products that PyTorch's profiler counts in the vision towers with projectors, and in one pass over the sequence.
"""

import base64
import json
import sys
import time

sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from ddvla import attention, decode, model  # noqa: E402


def attend(q, k, v, bias=None):
    """attention.attend with the batched products of numpy, as in training: torch 1.13's own are slow without MKL."""
    if bias is not None:
        return attention.attend(q, k, v, bias)
    return attention._Attention.apply(q * (q.shape[-1] ** -0.5), k, v)


def products(run):
    with profile(activities=[ProfilerActivity.CPU], with_flops=True, record_shapes=True) as p:
        result = run()
    return result, sum(e.flops or 0 for e in p.events() if e.name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"))


def main():
    asked = json.loads(sys.stdin.readline())
    torch.set_num_threads(asked["threads"])
    net = model.load(asked["checkpoint"], asked["images"], asked["slots"])
    side = net.sizes.image
    pixels = torch.frombuffer(bytearray(base64.b64decode(asked["pixels"])), dtype=torch.uint8)
    pixels = pixels.view(1, asked["images"], side, side, 3)
    ids = torch.tensor([asked["prompt_ids"]])
    lengths = torch.tensor([ids.shape[1]])
    proprio = torch.tensor([asked["proprio"]], dtype=torch.float32)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        if json.loads(line)["do"] == "flops":
            with torch.no_grad():
                prefix, vision = products(lambda: net.prefix(pixels, proprio))
                tokens = torch.full((1, asked["slots"]), -1)
                _, once = products(lambda: net.denoise(prefix, ids, lengths, tokens))
            answer = {"vision": vision, "pass": once}
        else:
            model.attend = attend
            start, work = time.perf_counter(), time.process_time()
            bins, _ = decode.greedy(net, pixels, ids, lengths, proprio, asked["rounds"])
            answer = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - work, "bins": bins[0].tolist()}
            model.attend = attention.attend
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
