

import os

# ONNX Runtime from 1.29 on reports to its maker and keeps a store in the user's cache unless told so before it is
# imported; a robot sends nothing that its owner has not asked for. Whoever sets the variable decides.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
