"""The picking cell on a robot: camera, segmentation, planning, pick check, recorder."""

from launch import LaunchDescription

from robin_bringup.launching import station_description


def generate_launch_description() -> LaunchDescription:
    return station_description("workcell")
