"""Every constant of the planner, as configuration with units. Per-class tuples follow
``robin_perception.core.scene.CLASSES``."""

from __future__ import annotations

from pydantic import Field, model_validator

from robin_perception.core.config import StrictConfig

PerClass = tuple[float, float, float, float, float]


class SurfaceConfig(StrictConfig):
    """How the depth image becomes surfaces. Noise is Gaussian in inverse depth (stereo: Z RMS = Z^2 * s / (f B))."""

    working_width_px: int = Field(640, ge=160, le=2048, description="the frame is thinned to about this width")
    least_inverse_depth_noise_pm: float = Field(0.0006, gt=0, le=0.1, description="floor of the estimate, 1/m")
    most_inverse_depth_noise_pm: float = Field(0.02, gt=0, le=1.0, description="ceiling of the estimate, 1/m")
    slope_noise: float = Field(
        1.0, ge=0, le=10, description="error of a window's slope, in depth sigmas over its half side"
    )
    offset_noise: float = Field(1.0, ge=0, le=10, description="error of a wide window's height, in depth sigmas")
    wide_window_m: float = Field(0.032, gt=0.005, le=0.1, description="half side of the window for a cup's local slope")
    contact_window_m: float = Field(
        0.050, gt=0.005, le=0.2, description="half side of the window for a contact's plane"
    )
    level_prior: float = Field(
        1.5,
        ge=0,
        le=10,
        description="parcels lie level unless seen otherwise: tilts are shrunk by this many of their sigmas",
    )
    plane_samples: int = Field(256, ge=32, le=4096, description="pixels per parcel for its robust plane")
    same_plane_offset_m: float = Field(0.005, gt=0, le=0.05)
    same_plane_angle_rad: float = Field(0.09, gt=0, le=0.8)


class FacetConfig(StrictConfig):
    """When a mask is split into several planar faces. Only what may be a carton has faces."""

    least_carton_probability: float = Field(0.3, ge=0, le=1)
    window_m: float = Field(0.030, gt=0.005, le=0.2, description="half side of the windows that hypotheses come from")
    inlier_sigmas: float = Field(3.0, gt=0, le=10)
    least_angle_rad: float = Field(0.45, gt=0, le=1.6, description="between two faces")
    least_share: float = Field(0.10, gt=0, le=1, description="of the mask's samples, for a second face")
    least_samples: int = Field(14, ge=6, le=1000)
    smooth_px: int = Field(5, ge=3, le=5, description="median filter over the assignment, odd")
    trim_sigmas: float = Field(4.0, ge=0, le=20, description="a pixel this far below its face is none of it ...")
    trim_m: float = Field(0.008, ge=0, le=0.1, description="... if it is this far below, too")
    trim_hole_px: int = Field(25, ge=1, description="missing depth at the mask's edge, this large, is a side")
    trim_most: float = Field(0.5, ge=0, le=1, description="share of the mask; beyond, the plane is wrong, not the rim")


class SamplingConfig(StrictConfig):
    """Which tool poses are considered. Poses are cut twice, by cheap terms, before the full evaluation."""

    contacts_per_instance: int = Field(10, ge=1, le=64)
    contact_spacing_m: float = Field(0.030, gt=0.005, le=0.2)
    poses_per_contact: int = Field(8, ge=1, le=200)
    poses_per_instance: int = Field(16, ge=1, le=400, description="poses whose seals and clearance are computed")
    full_poses_per_instance: int = Field(4, ge=1, le=64, description="poses for which all 255 subsets are weighed")
    upright_from_rad: float = Field(
        0.25, ge=0, le=1.6, description="beside walls, faces steeper are also tried with ..."
    )
    steep_from_rad: float = Field(
        0.85, ge=0, le=1.6, description="... and everywhere those steeper than this, with ..."
    )
    upright_rad: float = Field(0.13, ge=0, le=0.8, description="... a tool that stands this much more upright")
    max_tilt_rad: float = Field(1.0, gt=0, le=1.4, description="tool axis against straight down")
    grasps_per_instance: int = Field(2, ge=1, le=10)
    rejects_per_instance: int = Field(4, ge=1, le=50)


class SealConfig(StrictConfig):
    """P(seal) of a cup is logistic: base logit of the class minus penalties, each a slope times an excess.

    edge: how far the lip's outside comes within ``edge_margin_m`` of the mask's edge. rms: surface roughness beyond the
    depth noise under the lip. tilt: local slope against the tool beyond ``tilt_free`` of the bellows' range. gap:
    height of the surface against the lip plane beyond ``gap_free_m``. holes: share of missing depth beyond
    ``holes_free``.
    """

    base_logit: PerClass = (4.5, 4.5, 4.0, 3.5, 3.0)
    edge_margin_m: float = Field(0.006, ge=0, le=0.05)
    edge_logit_per_m: float = Field(900.0, ge=0)
    rms_free: float = Field(
        1.4, ge=0, le=10, description="residual that costs nothing, in sigmas of the frame's depth noise"
    )
    rms_logit_per_m: float = Field(900.0, ge=0)
    tilt_free: float = Field(0.5, ge=0, le=1, description="share of the bellows' tilt range that costs nothing")
    tilt_logit_per_rad: float = Field(22.0, ge=0)
    gap_free_m: float = Field(0.003, ge=0, le=0.05)
    gap_logit_per_m: float = Field(900.0, ge=0)
    most_holes: float = Field(0.6, ge=0, le=1, description="more missing depth than this: nothing is known there")
    bridge_carton_probability: float = Field(
        0.5, ge=0, le=1, description="what is a carton this surely goes on as a plane where depth is missing"
    )
    bridge_depth_share: float = Field(0.6, ge=0, le=1, description="... if this much of its depth is there")
    holes_free: float = Field(0.25, ge=0, le=1)
    holes_logit: float = Field(5.0, ge=0)
    least_probability: float = Field(0.35, ge=0, le=1, description="below: the cup stays closed")


class WrenchConfig(StrictConfig):
    """Load cases and limits (``robin_grasp.planner.wrench``), with V = dp * A per cup.

    peel_moment_share: of the moment r (V - t) at which a rigid lip lifts at its edge. vacuum_share: expected pressure
    difference over the pump's, per class (porous card leaks). density_kgpm3 and thickness_m: for the mass of what is
    seen; a carton's thickness is its height above what lies below, at most ``thickness_m``.
    """

    enabled: bool = True
    peel_moment_share: float = Field(0.8, gt=0, le=1)
    vacuum_share: PerClass = (0.54, 0.71, 0.51, 0.60, 0.70)
    density_kgpm3: PerClass = (130.0, 380.0, 150.0, 150.0, 135.0)
    thickness_m: PerClass = (0.40, 0.007, 0.028, 0.040, 0.10)
    support_weight: float = Field(0.35, ge=0, le=1, description="belief that a parcel rests on the neighbour it hides")
    mass_log_sigma: PerClass = Field((0.65, 0.55, 0.55, 0.50, 0.60), description="1-sigma of ln(mass)")
    least_mass_kg: float = Field(0.06, gt=0, le=5)
    most_mass_kg: float = Field(4.0, gt=0, le=50)
    com_sigma_share: float = Field(0.08, ge=0, le=0.5, description="1-sigma of the COM, share of the parcel's sides")
    safety_factor: float = Field(1.5, ge=1, le=5)
    least_margin: float = Field(
        0.4, ge=0, le=10, description="limit over load times safety factor, at the expected mass"
    )
    hold_log_sigma: float = Field(0.25, gt=0, le=2, description="1-sigma of ln(model error), beside the mass")


class MultiPickConfig(StrictConfig):
    """An active cup must stay inside the target: footprint plus ``veto_sigmas`` of the edge's position."""

    veto_sigmas: float = Field(2.0, ge=0, le=6)
    calibration_sigma_m: float = Field(0.0018, ge=0, le=0.05)
    capture_probability: float = Field(0.5, ge=0, le=1, description="P(the neighbour comes along | the lip touches it)")
    merge_boundary: float = Field(0.55, gt=0, le=1, description="boundary probability of a ridge inside a mask")
    merge_edge_band_m: float = Field(0.022, ge=0, le=0.2, description="the mask's rim, where boundary is expected")
    merge_least_part: float = Field(0.15, gt=0, le=0.5, description="share of the mask that each part must have")
    merge_step_m: float = Field(
        0.015, gt=0, le=0.2, description="height step between the parts that proves two parcels"
    )
    ragged_merged: float = Field(
        3.0, ge=0, le=50, description="P(the mask holds two parcels) per background in its rectangle; 0.4 at most"
    )
    boundary_weight: float = Field(0.5, ge=0, le=1, description="P(multi) per unit of interior boundary under the cups")


class OrderConfig(StrictConfig):
    """i rests on j when i is higher across their shared boundary by more than max(sigmas * sigma_z, step_m)."""

    enabled: bool = True
    step_m: float = Field(0.008, gt=0, le=0.1)
    sigmas: float = Field(3.0, ge=0, le=10)
    reach_m: float = Field(0.012, gt=0, le=0.1, description="pixels this far on either side of a boundary are compared")
    least_boundary_m: float = Field(0.02, ge=0, le=0.5)
    lone_touch: float = Field(
        0.02, ge=0, le=1, description="share of the outline with neighbours below which a parcel lies alone"
    )
    lone_free: float = Field(0.2, ge=0, le=1, description="least P(free) of a parcel that lies alone")
    ragged_free: float = Field(
        0.12, ge=0, le=1, description="share of a mask's rectangle that background shows in around one parcel"
    )
    whole_fill: float = Field(0.93, gt=0, le=1, description="a mask that fills its rectangle so far is whole")
    overlap_free: float = Field(
        0.03, ge=0, le=1, description="share of a mask's rectangle that others may show in for other reasons"
    )
    free_visible_fraction: float = Field(0.992, gt=0, le=1, description="seen as a whole: nothing can lie on it")
    ban_visible_fraction: float = Field(0.45, ge=0, le=1, description="covered and seen less than this: not picked")
    free_logit: float = Field(4.06, description="logit of P(free) of a parcel just below free_visible_fraction")
    hidden_logit: float = Field(9.9, ge=0, description="logits lost per square root of the hidden fraction")
    overlap_logit: float = Field(2.9, ge=0, description="logits lost per unit of overlap (share of the rectangle)")
    cover_length_logit: float = Field(5.2, ge=0, description="logits lost per unit of cover (share of the outline)")


class ClearanceConfig(StrictConfig):
    """The tool against what the depth image shows and against the tote's walls."""

    sample_spacing_m: float = Field(0.018, gt=0.002, le=0.05)
    margin_m: float = Field(0.006, ge=0, le=0.05)
    wall_margin_m: float = Field(0.008, ge=0, le=0.1)
    wall_noise_m: float = Field(0.020, ge=0, le=0.2, description="surface seen this near a wall is taken for the wall")
    thicken_px: int = Field(
        5, ge=1, le=31, description="what is near the tool is thickened by this, odd: samples are that far apart"
    )
    hit_share: float = Field(0.009, ge=0, le=1, description="share of samples above the plate that makes a collision")
    carry_margin_m: float = Field(0.02, ge=0, le=0.3, description="free height below a lifted parcel on its way")
    carry_cost_per_m: float = Field(6.0, ge=0, description="-ln product per metre that the pile is too high for that")
    press_logit_per_m: float = Field(60.0, ge=0, description="cost of neighbours pushed by cups beyond the bellows")


class RankConfig(StrictConfig):
    """utility = P(clean) - multi_cost * P(multi) - fail_cost * P(nothing delivered), all for one try. Costs that say
    "-ln product" act on the product of the geometric odds (``ranker.GeometricRanker``)."""

    multi_cost: float = Field(2.0, ge=0, le=20)
    cup_cost: float = Field(-0.02, ge=-0.1, le=1, description="per open cup; below 0 more cups are wanted")
    fail_cost: float = Field(0.5, ge=0, le=20)
    least_detection: float = Field(0.25, ge=0, le=1)
    least_depth_share: float = Field(0.35, ge=0, le=1)
    least_area_px: int = Field(60, ge=1, description="pixels of the thinned frame")
    least_clean: float = Field(0.76, ge=0, le=1, description="P(clean) below: not worth a try")
    odds_power: float = Field(
        0.07, gt=0, le=1, description="geometric P(clean) is its product to this power, fitted to outcomes"
    )
    tilt_free_rad: float = Field(0.20, ge=0, le=1.5, description="tool tilt that costs nothing")
    tilt_cost_per_rad: float = Field(
        0.9, ge=0, le=20, description="-ln product per tilt beyond: slopes shift when pushed"
    )
    standing_aspect: float = Field(
        0.35, ge=0, le=1, description="flat goods that look narrower than this (short over long side) stand on an edge"
    )
    standing_cost: float = Field(20.0, ge=0, le=100, description="-ln product per aspect that they look narrower")
    lever_free_m: float = Field(
        0.012, ge=0, le=0.2, description="cups' middle to the centre of mass: no parcel tips yet"
    )
    lever_cost_per_m: float = Field(
        25.0, ge=0, le=500, description="-ln product per lever beyond: drawn up askew, it tips and jams ..."
    )
    lever_cost_most: float = Field(0.7, ge=0, le=10, description="... up to this")
    narrow_m: float = Field(0.12, ge=0, le=1, description="a parcel narrower than this hangs from one row of cups ...")
    narrow_cost_per_m: float = Field(8.0, ge=0, le=500, description="... -ln product per metre that it is narrower")
    cover_cost: float = Field(
        10.0, ge=0, le=50, description="-ln product where higher neighbours touch it, per share ..."
    )
    cover_most: float = Field(0.3, ge=0, le=1, description="... of its outline, up to this")
    mask_quality_sure: float = Field(0.95, ge=0, le=1, description="masks of less quality are doubted")
    mask_doubt_cost: float = Field(8.0, ge=0, le=100, description="-ln product per quality that a mask lacks")
    failed_radius_m: float = Field(0.025, ge=0, le=0.5, description="tool positions this near are the same try")
    failed_most: int = Field(2, ge=1, le=20, description="failures of one try before it is ruled out")
    failed_elsewhere: float = Field(0.6, ge=0, le=1, description="on the promise of poses near a failure: try another")
    failed_discount: float = Field(0.5, ge=0, le=1, description="on the product of the parcel, per failure on it")
    failed_reach_m: float = Field(0.08, ge=0, le=0.5, description="a failure this near counts against the parcel")


class ExploreConfig(StrictConfig):
    """For gathering outcomes: now and then a grasp other than the best is put first, drawn by its utility."""

    probability: float = Field(0.0, ge=0, le=1)
    temperature: float = Field(0.02, gt=0, le=10, description="of the softmax over utilities")
    candidates: int = Field(20, ge=2, le=200)


class PlannerConfig(StrictConfig):
    """All of the planner. ``cup_health``: share of the vacuum that each cup reaches, 1 sound, 0 not to be used."""

    surface: SurfaceConfig = SurfaceConfig()
    facets: FacetConfig = FacetConfig()
    sampling: SamplingConfig = SamplingConfig()
    seal: SealConfig = SealConfig()
    wrench: WrenchConfig = WrenchConfig()
    multi: MultiPickConfig = MultiPickConfig()
    order: OrderConfig = OrderConfig()
    clearance: ClearanceConfig = ClearanceConfig()
    rank: RankConfig = RankConfig()
    explore: ExploreConfig = ExploreConfig()
    cup_health: tuple[float, float, float, float, float, float, float, float] = (1.0,) * 8

    @model_validator(mode="after")
    def _check(self) -> PlannerConfig:
        if not all(0.0 <= h <= 1.0 for h in self.cup_health):
            raise ValueError("cup_health must lie in 0..1")
        return self
