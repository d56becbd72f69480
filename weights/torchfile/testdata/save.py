"""Writes state_dicts with torch.save into the folder argv[1], NAME.pt, and beside each
NAME.json: {tensor name: [dtype, shape, hex of its values, row-major]}."""

import json
import random
import sys
from collections import OrderedDict
from pathlib import Path

import torch

out = Path(sys.argv[1])
names = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}
whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
torch.manual_seed(1)
random.seed(1)


def values(dtype, *shape):
    if dtype.is_floating_point:
        return torch.randn(*shape, dtype=torch.float64).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype)


def describe(t):
    flat = t.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    return [names[t.dtype], list(t.shape), flat.view(whole[t.element_size()]).numpy().tobytes().hex()]


def save(name, state, read_as=None, **options):
    torch.save(state, out / (name + ".pt"), **options)
    said = {(read_as or {}).get(k, k): describe(v) for k, v in state.items()}
    (out / (name + ".json")).write_text(json.dumps(said))


# OpenVLA-OFT's proprio projector, at odd sizes, as a module and under DDP's names.
module = torch.nn.Sequential(OrderedDict(fc1=torch.nn.Linear(7, 5), act=torch.nn.GELU(), fc2=torch.nn.Linear(5, 3)))
module.register_buffer("steps", torch.tensor(150000))
for protocol in (2, 3, 4, 5):
    save(f"module-{protocol}", module.state_dict(), pickle_protocol=protocol)
ddp = torch.nn.Module()
ddp.module = module
save("ddp", ddp.state_dict(), {k: k[len("module."):] for k in ddp.state_dict()})
save("some-ddp", {"module.a": torch.ones(2), "module": torch.ones(3), "modules.b": torch.ones(4)})
save("twice-ddp", {"module.module.a": torch.ones(2)}, {"module.module.a": "module.a"})
save("bfloat16", module.to(torch.bfloat16).state_dict())
save("parameters", dict(module.named_parameters()))

# Every type, plain dict; scalars, empty tensors, sizes of one.
state = {}
for dtype in names:
    state[f"{names[dtype]}.matrix"] = values(dtype, 3, 5)
    state[f"{names[dtype]}.scalar"] = values(dtype, 1)[0].clone()
    state[f"{names[dtype]}.view"] = values(dtype, 4, 3, 5).permute(2, 0, 1)[1:, ::2]
state["empty"] = torch.zeros(0, 3)
state["empty of something"] = values(torch.float32, 4, 3)[4:]
state["ones"] = values(torch.float32, 1, 1, 4, 1)
state["größe"] = torch.ones(1)
save("types", state)

# Tensors that share a storage, and views of all kinds.
base = values(torch.float32, 6, 10)
save("views", {
    "base": base, "same": base, "rows": base[2:4], "columns": base[:, 3:5], "turned": base.t(), "steps": base[::2, 1::3],
    "flat": base.reshape(-1)[7:20], "diagonal": base.diagonal(), "one": base[2, 3], "parameter": torch.nn.Parameter(base.t()),
    "kernel": values(torch.float16, 4, 3, 2, 2).to(memory_format=torch.channels_last), "column of one": base[:, :1],
    # More values than are gathered at a time, farther apart than is read at a time.
    "large": values(torch.bfloat16, 120, 2600)[:, 3:].t(),
})

# Many tensors, more than pickle sets in one batch, and anything that slicing and
# permuting can make.
state = {f"n{i}": torch.tensor([float(i)]) for i in range(2500)}
for i in range(150):
    t = values(random.choice(list(names)), *[random.randint(1, 6) for _ in range(random.randint(1, 5))])
    for axis in range(t.dim()):
        t = t.narrow(axis, first := random.randrange(t.shape[axis]), random.randint(0 if i % 9 == 0 else 1, t.shape[axis] - first))
        t = t[(slice(None),) * axis + (slice(None, None, random.randint(1, 3)),)]
    state[f"random{i}"] = t.permute(*random.sample(range(t.dim()), t.dim()))
save("many", state)
