"""Prints parameters as `ros2 param dump` of Humble does (ros2cli, ros2param/verb/dump.py), one JSON request per line.

A request is [node, [[name, kind, value], ...]]; numbers are strings, since JSON has neither inf nor int64.
The reply is the text as a JSON string.
"""

import json
import sys

import yaml


def insert(dictionary, key, value):
    split = key.split(".", 1)
    if len(split) > 1:
        insert(dictionary.setdefault(split[0], {}), split[1], value)
    else:
        dictionary[key] = value


KINDS = {
    "not set": lambda v: None,
    "bool": bool,
    "integer": int,
    "double": float,
    "string": str,
    "byte array": lambda v: [bytes([int(b)]) for b in v],
    "bool array": list,
    "integer array": lambda v: [int(i) for i in v],
    "double array": lambda v: [float(f) for f in v],
    "string array": list,
}

for line in sys.stdin:
    node, parameters = json.loads(line)
    out = {node: {"ros__parameters": {}}}
    for name, kind, value in sorted(parameters):
        insert(out[node]["ros__parameters"], name, KINDS[kind](value))
    json.dump(yaml.dump(out, default_flow_style=False) + "\n", sys.stdout)
    print(flush=True)
