"""The same nodes with the simulated cell in place of camera and arm."""

from launch import LaunchDescription

from robin_bringup.launching import station_description


def generate_launch_description() -> LaunchDescription:
    return station_description("sim_station")
