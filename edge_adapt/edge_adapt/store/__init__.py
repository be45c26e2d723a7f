"""What the robot keeps of its picks on its own disk: content-addressed blobs and their index, a fair sample."""
