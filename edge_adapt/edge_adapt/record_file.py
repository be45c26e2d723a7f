"""The file of decision records, for whoever only passes its lines on."""

from __future__ import annotations

RECORD_FILE = "decisions.jsonl"
LONGEST_RECORD = 4_000_000
"""Bytes of a line; a pile of sixty parcels takes fifty thousand."""
