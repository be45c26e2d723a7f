"""Seeing: frames, cameras, engines, segmentation, confidence."""

import os

# Both must be set before the library that reads them is imported; whoever sets them himself decides.
#
# OpenBLAS, under numpy and scipy, keeps its threads spinning for some 20 ms after each product. On the few cores of a
# robot they take these from the network, which then needs half as much time again; its own products are small.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# ONNX Runtime from 1.29 on reports to its maker and keeps a store in the user's cache; a robot sends nothing that its
# owner has not asked for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
