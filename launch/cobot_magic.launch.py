"""Starts the ddvla node on a Cobot Magic: ros2 launch discrete_diffusion_vla cobot_magic.launch.py policy:=/models/mine"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = "discrete_diffusion_vla"


def generate_launch_description():
    share = FindPackageShare(PACKAGE)
    return LaunchDescription(
        [
            DeclareLaunchArgument("policy", description="Directory of the policy bundle that `ddvla export` wrote."),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([share, "params", "cobot_magic.yaml"]),
                description="Parameter file: topics, rates, limits.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Take time from /clock."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
            Node(
                package=PACKAGE,
                executable="ddvla",
                name="ddvla",
                namespace=LaunchConfiguration("namespace"),
                output="screen",
                arguments=["node"],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                parameters=[
                    LaunchConfiguration("params_file"),
                    {
                        "policy": LaunchConfiguration("policy"),
                        "urdf": PathJoinSubstitution([share, "urdf", "cobot_magic.urdf"]),
                        "use_sim_time": LaunchConfiguration("use_sim_time"),
                    },
                ],
            ),
        ]
    )
