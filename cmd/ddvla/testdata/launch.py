"""Prints what launch files declare, as JSON, without ROS: their syntax trees are read, not run.

{file: {"arguments": [[name, description, default or null], ...], "parameters": [names given to the node]}}
"""

import ast
import json
import sys

out = {}
for path in sys.argv[1:]:
    tree = ast.parse(open(path).read(), path)
    # Texts that descriptions are put together from.
    names = {t.id: n.value.value for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant) for t in n.targets}

    def text(n):
        if isinstance(n, ast.BinOp):
            return text(n.left) + text(n.right)
        return names[n.id] if isinstance(n, ast.Name) else n.value

    found = {"arguments": [], "parameters": []}
    for n in ast.walk(tree):
        if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "DeclareLaunchArgument":
            keys = {k.arg: text(k.value) for k in n.keywords if k.arg != "choices"}
            found["arguments"].append([text(n.args[0]), keys.get("description", ""), keys.get("default_value")])
        if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "values":
            found["parameters"] += [text(k) for k in n.value.keys]
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Subscript) and n.targets[0].value.id == "arguments":
            found["parameters"].append(text(n.targets[0].slice))
    out[path.rsplit("/", 1)[-1]] = found
json.dump(out, sys.stdout)
