"""From a scene to a plan: candidates, seal, wrench, order, ranking."""
