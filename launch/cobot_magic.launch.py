"""Starts the ddvla node on a Cobot Magic.

ros2 launch discrete_diffusion_vla cobot_magic.launch.py policy:=/models/mine
ros2 launch discrete_diffusion_vla cobot_magic.launch.py --show-args
"""

import shlex
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PACKAGE = "discrete_diffusion_vla"
PARAMS = Path(__file__).resolve().parent.parent / "params"
# cobot_magic.yaml holds every parameter's default, to copy from; the others are profiles.
PROFILES = sorted(p.stem for p in PARAMS.glob("*.yaml") if p.stem != "cobot_magic")
BOOL = ["true", "false"]
LEAVE = " Empty leaves it to the params file."

ARGUMENTS = [
    DeclareLaunchArgument("policy", description="Directory of the policy bundle that `ddvla export` wrote."),
    DeclareLaunchArgument(
        "profile", default_value="aloha", choices=PROFILES, description="Which naming of topics and joints the robot's drivers have: a file in params/."
    ),
    DeclareLaunchArgument(
        "params_file", default_value="", description="Parameter file of your own, which counts more than the profile and less than arguments. params/cobot_magic.yaml lists all parameters."
    ),
    DeclareLaunchArgument("instruction", default_value="", description="What to do until the instruction's topic says otherwise." + LEAVE),
    DeclareLaunchArgument("instruction_topic", default_value="", description="Topic to hear instructions on (std_msgs/String), such as /instruction. Empty is ~/instruction."),
    DeclareLaunchArgument("provider", default_value="", choices=["", "cpu", "cuda", "tensorrt"], description="Where the policy's graph runs (runtime.provider)." + LEAVE),
    DeclareLaunchArgument("record", default_value="", description="Directory of a new bag for everything heard and said." + LEAVE),
    DeclareLaunchArgument("urdf", default_value="", description="Robot description with the joint limits." + LEAVE),
    DeclareLaunchArgument("autostart", default_value="", choices=["", *BOOL], description="Load the policy and take observations at once; false waits for `ros2 lifecycle set`." + LEAVE),
    DeclareLaunchArgument("start_enabled", default_value="", choices=["", *BOOL], description="Move the arms as soon as all is there, without ~/enable. For simulation." + LEAVE),
    DeclareLaunchArgument("use_sim_time", default_value="false", choices=BOOL, description="Take time from /clock."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument("log_level", default_value="info", choices=["debug", "info", "warn", "error", "fatal"], description="Least level that is logged."),
    DeclareLaunchArgument("backend", default_value="", choices=["", "rclgo", "cyclone"], description="Middleware: the ROS 2 that the program was built with, or Cyclone DDS by itself. Empty is the build's own."),
    DeclareLaunchArgument("respawn", default_value="false", choices=BOOL, description="Start the node again when it ends. It comes up disabled unless start_enabled is true. Without, its end ends the launch."),
    DeclareLaunchArgument("respawn_delay", default_value="2.0", description="Seconds before it is started again."),
    DeclareLaunchArgument("command", default_value="node", description="Subcommand of ddvla with its own arguments, for replay.launch.py."),
]


def node(context):
    """The node's process, with only those parameters that the launch was given."""
    given = context.launch_configurations
    parameters = [str(PARAMS / (given["profile"] + ".yaml"))]
    if given["params_file"]:
        parameters.append(given["params_file"])
    values = {
        "policy": given["policy"],
        "instruction": given["instruction"],
        "runtime.provider": given["provider"],
        "record": given["record"],
        "urdf": given["urdf"],
    }
    # As strings, or an instruction such as "1" or "on" would become another type.
    arguments = {name: ParameterValue(value, value_type=str) for name, value in values.items() if value}
    arguments["use_sim_time"] = given["use_sim_time"] == "true"
    if given["autostart"]:
        arguments["autostart"] = given["autostart"] == "true"
    if given["start_enabled"]:
        arguments["start_enabled"] = given["start_enabled"] == "true"
    parameters.append(arguments)

    command = shlex.split(given["command"])
    if given["backend"]:
        command += ["--backend", given["backend"]]
    respawn = given["respawn"] == "true"
    return [
        Node(
            package=PACKAGE,
            executable="ddvla",
            name="ddvla",
            namespace=given["namespace"],
            arguments=command,
            ros_arguments=["--log-level", given["log_level"]],
            parameters=parameters,
            remappings=[("~/instruction", given["instruction_topic"])] if given["instruction_topic"] else [],
            output="screen",
            respawn=respawn,
            respawn_delay=float(given["respawn_delay"]),
            on_exit=None if respawn else ended,
        )
    ]


def ended(event, context):
    """Ends the launch with a process, unless it is ending: a second SIGINT would cut the node's own end short."""
    return None if context.is_shutdown else Shutdown(reason=f"{event.process_name} has ended")


def generate_launch_description():
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=node)])
