"""Parcels drawn from documented distributions: cartons, mailers, bags, tubes. Deterministic per generator."""

from robin_sim.parcels.distributions import BASE_TRAINING_MIX, KIND_TABLES, UNSEEN_TAG, ParcelMix
from robin_sim.parcels.draw import draw_parcel, draw_parcels

__all__ = ["BASE_TRAINING_MIX", "KIND_TABLES", "UNSEEN_TAG", "ParcelMix", "draw_parcel", "draw_parcels"]
