"""Training decks: which labelled samples are taught and which judge, in manifests that never change."""
