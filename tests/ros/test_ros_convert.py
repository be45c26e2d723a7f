"""Messages and the core's types: there and back, and what is refused with which code."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.ros_environment import ROS_REASON
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

if ROS_REASON is not None:
    pytest.skip(ROS_REASON, allow_module_level=True)

from helpers.decision_samples import sample_decision, sample_frame, sample_scene
from rclpy.serialization import deserialize_message, serialize_message
from robin_msgs.msg import Decision as DecisionMsg
from robin_msgs.msg import GraspPlan, PickMotion, PickOutcome, RejectedCandidate, SegmentedScene
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from edge_adapt.nodes.convert import decision_from_msg, decision_to_msg
from robin_grasp.nodes.convert import outcome_from_msg, outcome_to_msg, plan_from_msg, plan_to_msg
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.outcome_report import OutcomeReport
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import FailedPick, Grasp, Plan, PlanBasis, Reject, Rejected
from robin_grasp.tool import CellConfig, MotionConfig, mask_to_cups
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.frame import Frame
from robin_perception.core.scene import CLASSES, Instance, Scene
from robin_perception.nodes import convert

STAMP_S = 1_790_000_000.123456
CELL = CellConfig(motion=MotionConfig(press_m=0.004, transfer_axis_xy=(0.6, -0.8)))
K = np.array([[610.0, 0.0, 319.5], [0.0, 611.0, 239.5], [0.0, 0.0, 1.0]])


def over_the_wire(message: object) -> object:
    """What a subscriber gets: serialized and read back by ROS itself."""
    return deserialize_message(serialize_message(message), type(message))


def frame(height: int = 480, width: int = 640, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    depth = (rng.integers(100, 3000, (height, width)).astype(np.float32)) * np.float32(0.001)
    depth[rng.random((height, width)) < 0.1] = 0
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [2.9, 0.1, 0.3]).as_matrix()
    pose[:3, 3] = 0.5, 0.1, 1.2
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(rgb, depth, K, pose, STAMP_S, "camera_color_optical_frame")


def scene(seed: int = 0, class_names: tuple[str, ...] = CLASSES) -> Scene:
    rng = np.random.default_rng(seed)
    labels = np.zeros((480, 640), dtype=np.uint16)
    instances = []
    for i in range(3):
        x0, y0 = 10 + 200 * i, 20 + 100 * i
        labels[y0 : y0 + 80, x0 : x0 + 150] = i + 1
        chances = rng.dirichlet(np.ones(len(class_names))).astype(np.float32)
        seen = rng.random(3)
        embedding = rng.normal(size=16).astype(np.float32)
        instances.append(
            Instance(i + 1, (x0, y0, x0 + 150, y0 + 80), 12000, chances, *seen, 1.0 + rng.random(), embedding)
        )
    instances[2] = replace(instances[2], film_depth=(1.25, 0.5, -0.125, 0.0625, 0.0, -0.25))
    boundary = rng.random((96, 128)).astype(np.float32)
    timings = {"network": 5.25, "segment": 9.5}
    return Scene(STAMP_S, "base-1", labels, tuple(instances), boundary, ("dark",), timings, class_names, "fallback:cpu")


def issued(seed: int = 0, grasps: int = 3) -> IssuedPlan:
    rng = np.random.default_rng(seed)

    def pose() -> NDArray[np.float64]:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.random(random_state=rng.integers(1 << 30)).as_matrix(), rng.normal(size=3)
        return T

    made = tuple(
        Grasp(pose(), int(rng.integers(1, 256)), i + 1, rng.normal(), {"seal": rng.random(), "push_m": rng.normal()})
        for i in range(grasps)
    )
    ruled_out = tuple(Rejected(9, pose(), 0, reason, {"edge_max_m": rng.random()}) for reason in Reject)
    code, text = (Code.OK, "3 grasps") if made else (Code.NO_GRASP, "no cup seals")
    counts = {reason: 70_000 + int(reason) for reason in Reject}
    plan = Plan(code, text, made, ruled_out, "geometric", {"sample": 1.5}, counts)
    failed = (FailedPick((0.1, 1 / 3, 0.2), 255, 2),)
    return IssuedPlan("p1-000001", True, plan, frame(), scene(), failed, (2, 5), ("of_its_own",))


@pytest.mark.parametrize(
    ("encoding", "dtype", "channels"),
    [
        ("rgb8", np.uint8, 3),
        ("bgr8", np.uint8, 3),
        ("mono8", np.uint8, 1),
        ("16UC1", np.uint16, 1),
        ("mono16", np.uint16, 1),
        ("32FC1", np.float32, 1),
    ],
)
@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), pad=st.integers(0, 5), swapped=st.booleans())
def test_images_come_back(encoding: str, dtype: type, channels: int, height: int, width: int, pad: int, swapped: bool):
    """Whatever the padding of rows and the byte order of the sender."""
    rng = np.random.default_rng(height * 100 + width)
    shape = (height, width, 3) if channels == 3 else (height, width)
    image = rng.integers(0, 255, shape).astype(dtype)
    message = convert.image_to_msg(image, encoding, Header(frame_id="c"))
    if swapped:
        message = replace_image(message, image.byteswap(), step=message.step, big=True)
    if pad:
        rows = np.frombuffer(message.data, np.uint8).reshape(height, -1)
        message = replace_image(message, np.pad(rows, ((0, 0), (0, pad))), step=message.step + pad, big=swapped)
    back = convert.image_from_msg(over_the_wire(message))
    assert back.dtype == dtype and np.array_equal(back, image)


def replace_image(message: Image, data: NDArray, step: int, big: bool) -> Image:
    changed = Image(check_fields=True)
    changed.header, changed.encoding = message.header, message.encoding
    changed.height, changed.width, changed.step = message.height, message.width, step
    changed.is_bigendian = int(big)
    changed.data = convert.bytes_of(np.ascontiguousarray(data))
    return changed


@pytest.mark.parametrize("change", [{"height": 5}, {"width": 99}, {"step": 3}, {"height": 0}, {"width": 0, "step": 0}])
def test_contradicting_sizes_are_refused(change: dict[str, int]):
    message = convert.image_to_msg(np.zeros((4, 6, 3), np.uint8), "rgb8", Header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(RobinError) as error:
        convert.image_from_msg(message)
    assert error.value.code == Code.INPUT_UNREADABLE


def test_encodings_that_do_not_fit_are_refused():
    color = convert.image_to_msg(np.zeros((4, 6), np.uint8), "mono8", Header())
    yuv = convert.image_to_msg(np.zeros((4, 6), np.uint16), "16UC1", Header())
    yuv.encoding = "yuv422"
    for broken in (
        lambda: convert.rgb_from_msg(color),
        lambda: convert.depth_from_msg(color),
        lambda: convert.image_from_msg(yuv),
        lambda: convert.image_to_msg(np.zeros((4, 6), np.float64), "32FC1", Header()),
        lambda: convert.image_to_msg(np.zeros((4, 6, 3), np.uint16), "16UC1", Header()),
    ):
        with pytest.raises(RobinError) as error:
            broken()
        assert error.value.code == Code.INPUT_ENCODING_MISMATCH


def test_a_frame_comes_back():
    """Colour, millimetre depth, intrinsics and stamp: exact."""
    sent = frame()
    color, depth, info = (over_the_wire(m) for m in convert.frame_to_msgs(sent))
    back = convert.frame_from_msgs(color, depth, info, sent.T_base_camera).validated()
    assert np.array_equal(back.rgb, sent.rgb) and np.array_equal(back.K, sent.K)
    assert np.array_equal(back.depth, sent.depth)
    assert back.stamp_s == sent.stamp_s and back.camera_id == "camera_color_optical_frame"


def test_bgr_and_metric_depth_give_the_same_frame():
    """As other drivers publish; what is no measurement is counted."""
    sent = frame()
    head = convert.frame_header(sent)
    color = convert.image_to_msg(np.ascontiguousarray(sent.rgb[:, :, ::-1]), "bgr8", head)
    metres = sent.depth.copy()
    metres[0, :3] = np.nan, -1.0, np.inf
    depth = convert.image_to_msg(metres, "32FC1", head)
    back = convert.frame_from_msgs(color, depth, convert.frame_to_msgs(sent)[2], sent.T_base_camera)
    assert np.array_equal(back.rgb, sent.rgb)
    assert np.array_equal(back.depth[1:], sent.depth[1:])
    assert not back.depth[0, :3].any() and back.gate.depth_removed == {"not_finite": 2, "negative": 1}


def test_frames_that_do_not_fit_are_refused():
    color, depth, info = convert.frame_to_msgs(frame())
    small = convert.frame_to_msgs(frame(120, 160))
    other = convert.frame_to_msgs(frame(), "camera_depth_optical_frame")[1]
    for images, code in (
        ((color, small[1], info), Code.INPUT_SIZE_MISMATCH),
        ((color, depth, small[2]), Code.INPUT_SIZE_MISMATCH),
        ((color, other, info), Code.FRAME_ID_MISMATCH),
    ):
        with pytest.raises(RobinError) as error:
            convert.frame_from_msgs(*images, np.eye(4))
        assert error.value.code == code


def test_what_camera_info_says_of_the_lens_comes_along():
    info = over_the_wire(convert.frame_to_msgs(frame())[2])
    info.d, info.distortion_model, info.binning_x = [0.001, 0.0, 0.0, 0.0, 0.0], "rational_polynomial", 2
    info.roi.width, info.roi.height = 320, 240
    camera = convert.camera_from_msg(info)
    assert np.array_equal(camera.K, K) and (camera.width, camera.height) == (640, 480)
    assert camera.distortion == (0.001, 0, 0, 0, 0) and camera.distortion_model == "rational_polynomial"
    assert camera.binning == (2, 0) and camera.roi == (320, 240)


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1))
def test_stamps_of_messages_come_back_within_a_float(sec: int, nanosec: int):
    ns = sec * 10**9 + nanosec
    assert convert.stamp_to_ns(convert.stamp_from_ns(ns)) == ns
    back = convert.stamp_to_ns(convert.stamp_from_s(convert.stamp_to_s(convert.stamp_from_ns(ns))))
    assert abs(back - ns) <= 120


@given(st.floats(2.0**23, 2.0**31 - 1, exclude_max=True))
def test_stamps_of_frames_come_back_exactly(stamp_s: float):
    assert convert.stamp_to_s(convert.stamp_from_s(stamp_s)) == stamp_s


@pytest.mark.parametrize("class_names", [CLASSES, (*CLASSES, "crate"), ("parcel",)])
def test_a_scene_comes_back(class_names: tuple[str, ...]):
    sent = scene(class_names=class_names)
    message = over_the_wire(convert.scene_to_msg(sent, convert.frame_header(frame())))
    assert isinstance(message, SegmentedScene) and message.segment_ms == 9.5
    back = convert.scene_from_msg(message)
    assert np.array_equal(back.labels, sent.labels) and np.array_equal(back.boundary, sent.boundary)
    assert back.class_names == class_names and back.engine == "fallback:cpu"
    assert [i.class_name for i in message.instances] == [sent.class_name(i) for i in sent.instances]
    assert (back.stamp_s, back.model_id, back.flags, back.timings_ms) == (
        (sent.stamp_s, sent.model_id, sent.flags, sent.timings_ms)
    )
    for got, want in zip(back.instances, sent.instances, strict=True):
        assert np.array_equal(got.class_probabilities, want.class_probabilities)
        assert np.array_equal(got.embedding, want.embedding)
        assert math.isnan(got.novelty) and math.isnan(want.novelty)
        plain = {"class_probabilities": None, "embedding": None, "novelty": 0.0}
        assert replace(got, **plain) == replace(want, **plain)


def test_a_scene_without_its_boundary_says_so():
    """The planner reads the boundary: it must find one, and the record must say that it saw none."""
    back = convert.scene_from_msg(convert.scene_to_msg(scene(), Header(), with_boundary=False))
    assert back.boundary.shape == (1, 1) and back.flags == ("dark", "boundary_missing")


def test_scenes_that_contradict_themselves_are_refused():
    def broken(change: str) -> SegmentedScene:
        message = convert.scene_to_msg(scene(), Header())
        if change == "box":
            message.instances[0].roi.width = 5000
        elif change == "twice":
            message.instances[0].id = 2
        elif change == "background":
            message.instances[0].id = 0
        elif change == "class":
            message.instances[0].class_probabilities = []
        elif change == "names":
            message.class_names = message.class_names[:4]
        return message

    for change in ("box", "twice", "background", "class", "names"):
        with pytest.raises(RobinError) as error:
            convert.scene_from_msg(broken(change))
        assert error.value.code == Code.INPUT_UNREADABLE, change
    with pytest.raises(RobinError) as error:
        convert.scene_from_msg(SegmentedScene())
    assert error.value.code == Code.INPUT_ENCODING_MISMATCH


@pytest.mark.parametrize("grasps", [0, 3])
def test_a_plan_comes_back(grasps: int):
    sent = issued(grasps=grasps)
    basis = PlanBasis("d" * 64, {"least_clean": 0.76, "max_tilt_rad": 1.0})
    sent = replace(sent, plan=replace(sent.plan, basis=basis))
    message = over_the_wire(plan_to_msg(sent, CELL))
    assert isinstance(message, GraspPlan) and message.requested and message.header.frame_id == "base_link"
    assert message.model_id == "base-1"
    back = plan_from_msg(message)
    assert (back.plan_id, back.stamp_s, back.failed, back.excluded, back.flags) == (
        (sent.plan_id, STAMP_S, sent.failed, sent.excluded, sent.flags)
    )
    for got, want in zip(
        (*back.plan.grasps, *back.plan.rejected), (*sent.plan.grasps, *sent.plan.rejected), strict=True
    ):
        assert np.allclose(got.T_base_tool, want.T_base_tool, rtol=0, atol=1e-12)
        assert replace(got, T_base_tool=None) == replace(want, T_base_tool=None)
    assert back.motion == CELL.motion
    bare = {"grasps": (), "rejected": ()}
    assert replace(back.plan, **bare) == replace(sent.plan, **bare)


def test_plans_of_another_frame_or_version_are_refused():
    unreadable = ("frame", "reject", "counted", "uncounted", "cups", "motion")
    for change, code in (*((change, Code.INPUT_UNREADABLE) for change in unreadable), ("q", Code.POSE_INVALID)):
        message = plan_to_msg(issued(), CELL)
        if change == "frame":
            message.header.frame_id = "world"
        elif change == "reject":
            message.rejected[0].code = 999
        elif change == "counted":
            message.rejected_codes[0] = 999
        elif change == "cups":
            message.cup_centres = message.cup_centres[:1]
        elif change == "motion":
            message.motion.press_m = -1.0
        elif change == "uncounted":
            message.rejected_counts = message.rejected_counts[1:]
        else:
            message.grasps[0].pose.orientation.w = 7.0
        with pytest.raises(RobinError) as error:
            plan_from_msg(message)
        assert error.value.code == code


def test_constants_of_the_messages_are_those_of_the_core():
    for reason in Reject:
        assert getattr(RejectedCandidate, reason.name) == int(reason)
    for result in PickResult:
        assert getattr(PickOutcome, result.name) == result.value
    assert set(PickMotion.get_fields_and_field_types()) == set(MotionConfig.model_fields)


REPORT = OutcomeReport("p1-000001", 1, STAMP_S, None, (0.0, 41_000.0, 0.0, 0.0, 5.5, 0.0, 0.0, 60_000.0), 12.25, 3.5)


@pytest.mark.parametrize("cups", [1, 4, 8])
def test_an_outcome_has_a_figure_for_each_cup(cups: int):
    report = replace(REPORT, vacuum_pa=REPORT.vacuum_pa[:cups])
    assert outcome_from_msg(over_the_wire(outcome_to_msg(report))).vacuum_pa == REPORT.vacuum_pa[:cups]


def test_an_outcome_comes_back_before_and_after_judgement():
    first = outcome_from_msg(over_the_wire(outcome_to_msg(REPORT)))
    assert math.isnan(first.target_gone)
    assert replace(first, target_gone=0.0) == replace(REPORT, target_gone=0.0)
    judged = replace(
        REPORT,
        result=PickResult.CLEAN,
        truth={"target": 3, "moved": [1, 2]},
        probability=0.95,
        reasons=("4 cups hold", "92% of the mask sank"),
        check_digest="c" * 64,
        target_gone=0.92,
        neighbours_gone=(4, 7),
    )
    assert outcome_from_msg(over_the_wire(outcome_to_msg(judged))) == judged


def test_truth_with_numpy_values_becomes_plain():
    report = replace(REPORT, truth={"target": np.int64(3), "moved": {2, 1}, "force_n": np.array([1.5, 2.0])})
    assert outcome_from_msg(outcome_to_msg(report)).truth == {"target": 3, "moved": [1, 2], "force_n": [1.5, 2.0]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("result", "great"),
        ("truth_json", "{"),
        ("truth_json", "[1]"),
        ("lifted_weight_n", math.nan),
        ("vacuum_pa", []),
        ("vacuum_pa", [0.0] * 9),
    ],
)
def test_outcomes_that_cannot_be_are_refused(name: str, value: object):
    message = outcome_to_msg(REPORT)
    setattr(message, name, value)
    with pytest.raises(RobinError) as error:
        outcome_from_msg(message)
    assert error.value.code == Code.OUTCOME_INVALID


@pytest.mark.parametrize("name", ["", "..", "../../victim", "a/b", "p1\n"])
def test_ids_that_are_no_file_names_are_refused_at_the_door(name: str):
    for message, read in ((plan_to_msg(issued(), CELL), plan_from_msg), (outcome_to_msg(REPORT), outcome_from_msg)):
        message.plan_id = name
        with pytest.raises(RobinError) as error:
            read(over_the_wire(message))
        assert error.value.code == Code.ID_INVALID


@pytest.mark.parametrize("result", ["clean", "multi", "infeasible"])
def test_a_decision_is_summed_up_and_whole(result: str):
    taken = sample_frame(np.random.default_rng(0))
    decision = sample_decision(1, result, taken, sample_scene(taken))
    message = over_the_wire(decision_to_msg(decision, "p1-000001"))
    assert isinstance(message, DecisionMsg) and decision_from_msg(message) == decision
    chosen = decision.chosen
    assert (message.result, message.instance_id) == (result, 0 if chosen is None else chosen.instance)
    assert mask_to_cups(message.cups) == (() if chosen is None else chosen.cups)
    assert (message.plan_id, message.decision_id, message.record_path) == ("p1-000001", decision.decision_id, "")
