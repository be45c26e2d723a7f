"""Model bundles: weights, manifest, calibration, card."""
