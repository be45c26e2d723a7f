"""Record and replay as MCAP bags in rosbag2's profile, without a ROS installation. See ``docs/record-replay.md``."""
