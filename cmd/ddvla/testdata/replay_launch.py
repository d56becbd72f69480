"""Runs replay.launch.py's player with stand-ins for ROS's modules, and prints the remaps of the node and of the bag, as JSON.

replay_launch.py LAUNCH_FILE [NAME:=VALUE ...]
"""

import json
import sys
import types


class Recorded:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class SetRemap(Recorded):
    pass


class ExecuteProcess(Recorded):
    pass


def module(name, **members):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(members)


plain = {name: Recorded for name in ("DeclareLaunchArgument", "IncludeLaunchDescription", "OpaqueFunction", "SetLaunchConfiguration", "Shutdown")}
module("launch", LaunchDescription=Recorded)
module("launch.actions", ExecuteProcess=ExecuteProcess, **plain)
module("launch.substitutions", LaunchConfiguration=Recorded)
module("launch_ros")
module("launch_ros.actions", SetRemap=SetRemap)

path = sys.argv[1]
scope = {"__file__": path, "__name__": "replay_launch"}
exec(compile(open(path).read(), path, "exec"), scope)
given = {a.args[0]: a.kwargs["default_value"] for a in scope["ARGUMENTS"] if "default_value" in a.kwargs}
given.update(a.split(":=", 1) for a in sys.argv[2:])
actions = scope["player"](types.SimpleNamespace(launch_configurations=given))
(process,) = [a for a in actions if isinstance(a, ExecuteProcess)]
command = process.kwargs["cmd"]
json.dump(
    {
        "node": {a.args[0]: a.args[1] for a in actions if isinstance(a, SetRemap)},
        "bag": dict(rule.split(":=") for rule in command[command.index("--remap") + 1 :]),
    },
    sys.stdout,
)
