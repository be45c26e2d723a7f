"""`robin bench ros`: latency over real ROS 2."""
