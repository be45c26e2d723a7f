"""Base training and export of the segmentation network. The only place that imports torch; never on a pick's path."""

import os

# Must stand before torch loads its OpenMP: spinning workers make training many times slower once another process
# shares a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
