"""A scene comes back from its record as far as that holds it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from helpers.decision_samples import sample_frame, sample_plan, sample_scene
from helpers.pick_samples import told_decision

from edge_adapt.decision import DecisionContext, build_decision
from edge_adapt.recorded_scene import recorded_scene
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.scene import CLASSES


def test_scene_of_a_record() -> None:
    decision = told_decision()
    labels = sample_scene(sample_frame(np.random.default_rng(2))).labels
    scene = recorded_scene(decision, labels)
    assert scene.labels is labels and (scene.stamp_s, scene.model_id) == (decision.stamp_s, decision.model_id)
    assert scene.flags == decision.scene_flags and scene.class_names == (decision.class_names or CLASSES)
    for back, row in zip(scene.instances, decision.instances, strict=True):
        assert scene.class_name(back) == row.class_name and back.film_depth == row.film_depth
        assert float(back.class_probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
        assert back.class_probabilities.max() == pytest.approx(row.class_probability, abs=1e-6)
        assert back.novelty == pytest.approx(float("nan") if row.novelty is None else row.novelty, nan_ok=True)
    for back, row in zip(scene.conditions, decision.conditions, strict=True):
        told = {one.name: getattr(back, one.name) for one in fields(back)}
        assert told == {**row.model_dump(), "code": Code(row.code), "family": told["family"], "effect": told["effect"]}
        assert (back.family.value, back.effect.value) == (row.family, row.effect)


def test_same_record_of_the_scene_that_came_back() -> None:
    frame = sample_frame(np.random.default_rng(2))
    first = told_decision()
    scene = recorded_scene(first, sample_scene(frame).labels)
    again = build_decision(
        DecisionContext(run_id="r", pile=0, pick=0, source="s", seed=3, engine="none"),
        frame,
        scene,
        sample_plan(),
        None,
    )
    assert again.conditions == first.conditions
    for old, new in zip(first.instances, again.instances, strict=True):
        assert new.model_dump(exclude={"class_probability"}) == old.model_dump(exclude={"class_probability"})


def test_condition_that_nobody_knows() -> None:
    decision = told_decision()
    foreign = decision.conditions[0].model_copy(update={"code": 65_000})
    with pytest.raises(RobinError, match="no known condition: 65000 'frozen'") as told:
        recorded_scene(decision.model_copy(update={"conditions": (foreign,)}), np.zeros((48, 64), np.uint16))
    assert told.value.code is Code.RECORD_INVALID
