"""A test station: N picks against thresholds, a candidate model beside the current one; exit status = verdict."""

from launch import LaunchDescription

from robin_bringup.launching import station_description


def generate_launch_description() -> LaunchDescription:
    return station_description("test_station")
