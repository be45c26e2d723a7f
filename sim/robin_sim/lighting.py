"""Lights of the cell, in linear RGB."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Linear sRGB of black bodies, brightest channel 1.
_KELVIN = np.array([2700.0, 3000.0, 4000.0, 5000.0, 6500.0, 8000.0])
_KELVIN_RGB = np.array(
    [[1.0, 0.40, 0.11], [1.0, 0.44, 0.156], [1.0, 0.64, 0.37], [1.0, 0.78, 0.62], [1.0, 0.95, 0.98], [0.72, 0.79, 1.0]]
)


@dataclass(frozen=True)
class Light:
    """A round lamp. position_m float64 [3] in base_link; radius_m softens its shadow and highlight; power float32 [3]
    linear RGB: irradiance at one metre, facing it."""

    position_m: NDArray[np.float64]
    radius_m: float
    power: NDArray[np.float32]


@dataclass(frozen=True)
class Lighting:
    """lights: one to four lamps. sky and ground float32 [3]: irradiance from above and from below (hemisphere light).
    exposure_ev: stops above or below the meter. adaptation: 0 meters the light that falls on the belt, 1 the
    picture."""

    lights: tuple[Light, ...]
    sky: NDArray[np.float32]
    ground: NDArray[np.float32]
    exposure_ev: float = 0.0
    adaptation: float = 0.2
    contrast: float = 1.0

    def incident(self, point_m: NDArray[np.float64]) -> float:
        """Mean irradiance on a horizontal face at ``point_m``, no shadows; the exposure is metered by it."""
        total = float(self.sky.mean())
        for light in self.lights:
            ray = light.position_m - point_m
            distance = float(np.linalg.norm(ray))
            total += float(light.power.mean()) * max(0.0, ray[2] / distance) / distance**2
        return max(total, 1e-6)


def colour_of_kelvin(kelvin: float) -> NDArray[np.float32]:
    """Linear RGB of a black body, mean 1. float32 [3]."""
    rgb = np.array([np.interp(kelvin, _KELVIN, _KELVIN_RGB[:, i]) for i in range(3)])
    return (rgb / rgb.mean()).astype(np.float32)


def nominal_lighting() -> Lighting:
    """Two neutral panels beside the camera and light from the hall: the cell's usual light."""
    white = np.ones(3, dtype=np.float32)
    lights = (
        Light(np.array([0.35, 0.75, 1.9]), 0.12, 2.2 * white),
        Light(np.array([1.30, -0.55, 2.1]), 0.12, 1.6 * white),
    )
    return Lighting(lights, sky=0.55 * white, ground=0.12 * white)


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """Light for training: from soft and even to one hard low lamp, tungsten to daylight, mixed colours, off exposures.

    The camera's white balance is applied here: it takes out most of the mean light's colour, never all of it.
    """
    count = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15]))
    base_kelvin = rng.uniform(2800.0, 7500.0)
    share = rng.dirichlet(np.full(count, 1.5))
    ambient = rng.beta(2.0, 2.0) * 0.75 + 0.08
    lights = []
    for i in range(count):
        bearing, elevation = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(22.0, 88.0))
        distance = rng.uniform(1.3, 3.2)
        centre = np.array([0.75, 0.0, 0.0]) + rng.normal(0.0, 0.25, 3) * np.array([1.0, 1.0, 0.0])
        direction = np.array(
            [math.cos(elevation) * math.cos(bearing), math.cos(elevation) * math.sin(bearing), math.sin(elevation)]
        )
        kelvin = base_kelvin + rng.normal(0.0, 500.0)
        power = (1.0 - ambient) * share[i] * distance**2 * colour_of_kelvin(kelvin)
        radius = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
        lights.append(Light(centre + distance * direction, radius, power.astype(np.float32)))
    sky = ambient * colour_of_kelvin(base_kelvin + rng.normal(0.0, 900.0))
    ground = sky * rng.uniform(0.1, 0.4) * rng.uniform(0.8, 1.2, 3)
    mean = sum((light.power / light.power.mean() * share[i] for i, light in enumerate(lights)), start=np.zeros(3))
    gain = ((1.0 - ambient) * mean + sky) ** -rng.uniform(0.75, 1.0) * rng.normal(1.0, 0.03, 3)
    balanced = tuple(Light(x.position_m, x.radius_m, (x.power * gain).astype(np.float32)) for x in lights)
    return Lighting(
        balanced,
        sky=(sky * gain).astype(np.float32),
        ground=(ground * gain).astype(np.float32),
        exposure_ev=float(np.clip(rng.normal(0.0, 0.5), -1.3, 1.0)),
        adaptation=float(rng.uniform(0.0, 0.6)),
        contrast=float(rng.uniform(0.85, 1.2)),
    )


def draw_new_lighting(rng: np.random.Generator) -> Lighting:
    """Light of a kind that ``draw_lighting`` never draws: a strong lamp low at one side, and all of it tinted as by
    coloured panes or a camera whose white balance is off."""
    tint = np.exp(rng.uniform(0.1, 0.3) * rng.permutation([1.0, -1.0, rng.uniform(-0.5, 0.5)])).astype(np.float32)
    ambient, distance = rng.uniform(0.15, 0.35), rng.uniform(1.6, 3.0)
    bearing, elevation = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(13.0, 21.0))
    flat = math.cos(elevation)
    direction = np.array([flat * math.cos(bearing), flat * math.sin(bearing), math.sin(elevation)])
    low = Light(
        np.array([0.75, 0.0, 0.0]) + distance * direction,
        rng.uniform(0.02, 0.1),
        (rng.uniform(1.0, 2.0) * distance**2 * tint).astype(np.float32),
    )
    return Lighting((low,), ambient * tint, ambient * rng.uniform(0.1, 0.4) * tint, float(rng.uniform(-0.9, 0.6)))
