"""Reading ROS 2 bags (MCAP) and coding ROS 2 messages without a ROS installation. See ``docs/record-replay.md``."""
