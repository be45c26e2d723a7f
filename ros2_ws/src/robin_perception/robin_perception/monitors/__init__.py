"""Whether light, lens, depth and the camera's place are still as they were when the station was commissioned."""
