"""The only modules of this room that import rclpy."""
