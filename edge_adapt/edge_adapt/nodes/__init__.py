"""ROS 2 nodes of this room. Only modules in here import rclpy; they convert, call the core and publish."""
