"""Feeds a recorded bag to the ddvla node, which moves nothing.

ros2 launch discrete_diffusion_vla replay.launch.py bag:=/bags/mine policy:=/models/mine
ros2 launch discrete_diffusion_vla replay.launch.py bag:=/bags/mine policy:=/models/mine player:=ros2
ros2 launch discrete_diffusion_vla replay.launch.py --show-args
"""

import shlex
from pathlib import Path

import yaml
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, SetLaunchConfiguration, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap

HERE = Path(__file__).resolve().parent
BOOL = ["true", "false"]

ARGUMENTS = [
    DeclareLaunchArgument("policy", description="Directory of the policy bundle that `ddvla export` wrote."),
    DeclareLaunchArgument("bag", description="rosbag2 directory or .mcap file to play."),
    DeclareLaunchArgument(
        "player", default_value="ddvla", choices=["ddvla", "ros2"],
        description="ddvla replays in one process, as fast as it can, with the same result each time, into a new bag. ros2 plays on the graph with `ros2 bag play --clock`, for rqt and the like.",
    ),
    DeclareLaunchArgument("out", default_value="", description="player ddvla: directory of the bag to write. Empty is the bag's name with _replay."),
    DeclareLaunchArgument("every", default_value="1", description="player ddvla: make a chunk from every n-th complete set of pictures."),
    DeclareLaunchArgument("realtime", default_value="false", choices=BOOL, description="player ddvla: at the recording's speed, times rate."),
    DeclareLaunchArgument("rate", default_value="1.0", description="How many times the recording's speed, of player ros2 and with realtime."),
    DeclareLaunchArgument("delay", default_value="10.0", description="player ros2: seconds before it plays, for the policy to load."),
    DeclareLaunchArgument("loop", default_value="false", choices=BOOL, description="player ros2: begin again at the end; the node takes the jump of the clock as a new start."),
]


def parameters(tree, path=""):
    """All parameters of a params file, of whichever nodes, as pairs of dotted name and value."""
    for key, value in (tree or {}).items():
        name = "" if key == "ros__parameters" else path + str(key)
        if isinstance(value, dict):
            yield from parameters(value, name + "." if name else "")
        else:
            yield name, value


def resolved(topic, node):
    """The full name of a topic of a node, as ROS 2 resolves it."""
    if topic.startswith("~/"):
        return node + topic[1:]
    return topic if topic.startswith("/") else node.rsplit("/", 1)[0] + "/" + topic


def player(context):
    """What cobot_magic.launch.py is told, and with player ros2 the process that plays."""
    given = context.launch_configurations
    if given["player"] == "ddvla":
        command = ["replay", given["bag"], "--every", given["every"]]
        if given["out"]:
            command += ["--out", given["out"]]
        if given["realtime"] == "true":
            command += ["--speed", given["rate"]]
        # One process, on no middleware.
        return [SetLaunchConfiguration("command", shlex.join(command)), SetLaunchConfiguration("backend", "")]
    # Neither the recorded commands nor the node's may reach a driver that happens to run, and what a node said
    # when it was recorded must not be taken for what this one says.
    profiles = HERE.parent / "params"
    files = [profiles / (given.get("profile", "aloha") + ".yaml")]
    if given.get("params_file"):
        files.append(Path(given["params_file"]))
    node = "/".join(["", *given.get("namespace", "").strip("/").split(), "ddvla"])

    def topics(files, *ends):
        """Full names of the topics that parameters with such ends name."""
        return {resolved(topic, node) for f in files for name, topic in parameters(yaml.safe_load(f.read_text())) if name.endswith(ends) and topic}

    # All that moves anything, under its names of today, and under those of the other profiles, which the bag may
    # be of, unless this one hears states there.
    moving = (".command_topic", "base.topic")
    named = topics(files, *moving) | topics(profiles.glob("*.yaml"), *moving) - topics(files, ".state_topic", ".status_topic")
    commands = sorted(named | {f"{node}/{side}/joint_trajectory" for side in ("left", "right")})
    recorded = [*commands, "/diagnostics", "/rosout", "/parameter_events", *[f"{node}/{topic}" for topic in ("action_chunk", "decode_trace", "inference", "status", "transition_event")]]
    play = ["ros2", "bag", "play", given["bag"], "--clock", "100", "--rate", given["rate"], "--delay", given["delay"]]
    if given["loop"] == "true":
        play.append("--loop")
    return [
        SetLaunchConfiguration("use_sim_time", "true"),
        *[SetRemap(topic, "/replay" + topic) for topic in commands],
        ExecuteProcess(
            cmd=[*play, "--remap", *[f"{topic}:=/recorded{topic}" for topic in recorded]],
            output="screen",
            on_exit=ended,
        ),
    ]


def ended(event, context):
    """Ends the launch with a process, unless it is ending already, which all have been told."""
    return None if context.is_shutdown else Shutdown(reason=f"{event.process_name} has ended")


def generate_launch_description():
    robot = IncludeLaunchDescription(str(HERE / "cobot_magic.launch.py"), launch_arguments=[("policy", LaunchConfiguration("policy"))])
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=player), robot])
