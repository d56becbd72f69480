"""Starts a simulated Cobot Magic at a table and the ddvla node that drives it.

ros2 launch discrete_diffusion_vla simulation.launch.py policy:=/models/tiny-reach
ros2 launch discrete_diffusion_vla simulation.launch.py --show-args
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

ROBOT = Path(__file__).resolve().parent / "cobot_magic.launch.py"

ARGUMENTS = [
    DeclareLaunchArgument("policy", description="Directory of the policy bundle that `ddvla export` wrote."),
    DeclareLaunchArgument("scene", default_value="1", description="Number that draws what lies on the table."),
    DeclareLaunchArgument("instructions", default_value="", description="Instructions to give one after the other, separated by semicolons; none are drawn then."),
    DeclareLaunchArgument("draw", default_value="6", description="Number of instructions to draw. 0 gives none: publish your own."),
    DeclareLaunchArgument("each", default_value="4s", description="How long each instruction is given."),
    DeclareLaunchArgument("compressed", default_value="false", choices=["true", "false"], description="Publish JPEG pictures on .../compressed; set cameras.*.topic in a params_file to hear them."),
    DeclareLaunchArgument("camera_rate", default_value="30", description="Pictures per second of each camera."),
    DeclareLaunchArgument("joint_rate", default_value="200", description="Joint states per second of each arm."),
]


def robot(context):
    """The simulated robot's process. When its instructions are over, the launch is."""
    given = context.launch_configurations
    # Where the node listens, which the node's namespace and an argument decide.
    topic = given.get("instruction_topic") or "/".join(["", *given.get("namespace", "").strip("/").split(), "ddvla", "instruction"])
    command = ["sim", "--wait", "--seed", given["scene"], "--each", given["each"], "--instruction-topic", topic]
    command += ["--camera-rate", given["camera_rate"], "--joint-rate", given["joint_rate"]]
    command += ["--instructions", given["instructions"]] if given["instructions"] else ["--draw", given["draw"]]
    if given["compressed"] == "true":
        command.append("--compressed")
    if given.get("backend"):
        command += ["--backend", given["backend"]]
    return [
        ExecuteProcess(
            cmd=[ExecutableInPackage(package="discrete_diffusion_vla", executable="ddvla"), *command],
            name="cobot_magic_sim",
            output="screen",
            on_exit=ended,
        )
    ]


def ended(event, context):
    """Ends the launch with a process, unless it is ending: a second SIGINT would cut the node's own end short."""
    return None if context.is_shutdown else Shutdown(reason=f"{event.process_name} has ended")


def generate_launch_description():
    return LaunchDescription(
        [
            *ARGUMENTS,
            # The simulated robot has the names of aloha, and nobody stands beside it.
            IncludeLaunchDescription(str(ROBOT), launch_arguments=[("policy", LaunchConfiguration("policy")), ("profile", "aloha"), ("start_enabled", "true")]),
            OpaqueFunction(function=robot),
        ]
    )
