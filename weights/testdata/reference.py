"""Makes random checkpoints and runs the PyTorch network on random observations.

    reference.py TRAIN_DIRECTORY < jobs.json

jobs.json is a list of {"dir", "args" of make_random.py, "cases": [{"batch", "prompt", "mutations"}]};
without args the checkpoint is "trained", a directory, for "images" and "slots". Each case becomes
DIR/case-N.safetensors: the inputs, the logits, and the logits of each mutation, all float32 (the
integers among them are exact).
"""

import contextlib
import io
import json
import os
import sys

sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402

import make_random  # noqa: E402
from ddvla import checkpoint, model  # noqa: E402

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
        for mutation in case["mutations"]:
            tensors["logits." + mutation] = net.logits(*inputs, mutate=mutation)
        checkpoint.write_safetensors(os.path.join(job["dir"], f"case-{number}.safetensors"), tensors)
