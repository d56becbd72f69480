"""Starts a simulated Cobot Magic at a table and the ddvla node that drives it.

ros2 launch discrete_diffusion_vla simulation.launch.py policy:=/models/tiny task:=cup
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
    DeclareLaunchArgument("task", default_value="all", description="Task to ask for, or all in turn; `ddvla sim -h` has their names. none leaves a table of cubes that nothing touches: publish your own instructions."),
    DeclareLaunchArgument("episodes", default_value="7", description="Number of scenes of the task."),
    DeclareLaunchArgument("instructions", default_value="", description="In place of a task, instructions to give one after the other, separated by semicolons."),
    DeclareLaunchArgument("draw", default_value="0", description="In place of a task, number of instructions to draw, each to reach for a cube."),
    DeclareLaunchArgument("each", default_value="4s", description="How long each of instructions or draw is given."),
    DeclareLaunchArgument("compressed", default_value="false", choices=["true", "false"], description="Publish JPEG pictures on .../compressed; set cameras.*.topic in a params_file to hear them."),
    DeclareLaunchArgument("camera_rate", default_value="30", description="Pictures per second of each camera."),
    DeclareLaunchArgument("joint_rate", default_value="200", description="Joint states per second of each arm."),
    DeclareLaunchArgument("profile", default_value="aloha", choices=["aloha"], description="The simulated robot has the names of aloha."),
    DeclareLaunchArgument("start_enabled", default_value="true", choices=["true", "false"], description="Let the arms move as soon as the policy is loaded, and after a stop again before a task's next scene. Where a robot is in the ROS domain already, the launch ends instead."),
]


def robot(context):
    """The simulated robot's process. When its instructions or episodes are over, the launch is."""
    given = context.launch_configurations
    # Where the node listens, which the node's namespace and an argument decide.
    node = "/".join(["", *given.get("namespace", "").strip("/").split(), "ddvla"])
    command = ["sim", "--wait", "--seed", given["scene"], "--episode-topic", node + "/episode"]
    command += ["--instruction-topic", given.get("instruction_topic") or node + "/instruction"]
    command += ["--camera-rate", given["camera_rate"], "--joint-rate", given["joint_rate"]]
    if given["instructions"]:
        command += ["--instructions", given["instructions"], "--each", given["each"]]
    elif given["draw"] != "0":
        command += ["--draw", given["draw"], "--each", given["each"]]
    elif given["task"] != "none":
        command += ["--task", given["task"], "--episodes", given["episodes"], "--home-service", node + "/home"]
    if given["start_enabled"] == "true":
        # Not by the node itself: the simulator makes sure each time that no robot is there.
        command += ["--enable-service", node + "/enable"]
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
    """Ends the launch with a process, unless it is ending already, which all have been told."""
    return None if context.is_shutdown else Shutdown(reason=f"{event.process_name} has ended")


def generate_launch_description():
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=robot),  # first: what is included below sets start_enabled
            IncludeLaunchDescription(str(ROBOT), launch_arguments=[("policy", LaunchConfiguration("policy")), ("profile", LaunchConfiguration("profile")), ("start_enabled", "false")]),
        ]
    )
