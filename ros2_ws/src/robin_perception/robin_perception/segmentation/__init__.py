"""From a frame to a scene: prepare, run the network, decode, refine."""
