"""Small bundles and the reference, for tests and proofs of engines."""
