"""What listens to a running station: the only modules of this room that import ROS."""
