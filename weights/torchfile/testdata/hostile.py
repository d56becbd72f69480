"""Writes into the folder argv[1] what torch.save writes of things that are no
state_dict, and code.pt, of which it proves that loading it makes the file argv[1]/ran."""

import os
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import torch

warnings.simplefilter("ignore")
out = Path(sys.argv[1])
ran = out / "ran"


class Call:
    def __init__(self, f, *args):
        self.call = f, args

    def __reduce__(self):
        return self.call


class Thing:
    pass


touch = f"open({str(ran)!r}, 'w').close()"
weight = torch.ones(2, 3)
files = {
    "code": {"w": weight, "x": Call(os.system, f"touch {ran}")},
    "eval": {"w": Call(eval, f"({touch}, 1)[1]")},
    "exec": Call(exec, touch),
    "getattr": Call(getattr, "text", "upper"),
    "in-hooks": OrderedDict(w=Call(torch._utils._rebuild_parameter, weight, True, Call(eval, touch))),
    "object": {"w": Thing()},
    "whole-module": torch.nn.Linear(2, 3),
    "training": {"model": {"w": weight}, "step": 5},
    "step": {"w": weight, "step": 5},
    "rate": {"w": weight, "rate": 0.5},
    "list": [weight],
    "tensor": weight,
    "integer-key": {0: weight},
    "expanded": {"w": torch.ones(3, 1).expand(3, 4)},
    "complex": {"w": torch.zeros(2, dtype=torch.complex64)},
    "quantised": {"w": torch.quantize_per_tensor(weight, 1.0, 0, torch.quint8)},
    "sparse": {"w": weight.to_sparse()},
    "storage": {"w": weight.storage()},
}
for name, what in files.items():
    torch.save(what, out / (name + ".pt"))
torch.jit.script(torch.nn.Linear(2, 3)).save(str(out / "torchscript.pt"))
torch.save({"w": weight}, out / "legacy.pt", _use_new_zipfile_serialization=False)

for name in ("code", "eval", "exec"):
    try:
        torch.load(out / (name + ".pt"))
    except Exception:
        pass
    assert ran.exists(), name + ".pt does no harm, so it shows nothing"
    ran.unlink()
