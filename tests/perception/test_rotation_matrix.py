"""Rotations for drawing agree with SciPy's, which poses are made with."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robin_perception.core.pose import rotation_matrix


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_scipy_whatever_the_length(seed: int) -> None:
    quaternion = np.random.default_rng(seed).normal(size=4) * (seed + 0.5)
    assert np.allclose(rotation_matrix(quaternion), Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)
