"""What each numbered reason means and what to do about it, for operators: ``list_codes``, the docs."""

from __future__ import annotations

from robin_perception.errors import Code

CODE_TEXTS = {
    Code.OK: "Done.",
    Code.INPUT_MISSING: "A file or folder that was named is not there.",
    Code.INPUT_UNREADABLE: "A file or message is damaged or of another kind than expected.",
    Code.INPUT_SIZE_MISMATCH: "Colour, depth and camera_info are not of one size; depth must be aligned to colour.",
    Code.DEPTH_EMPTY: "No pixel of the depth image is valid; look at the depth camera and its emitter.",
    Code.DEPTH_NOT_FINITE: "The depth image holds NaN or infinity; invalid pixels must be 0.",
    Code.INTRINSICS_INVALID: "The intrinsics do not fit the image.",
    Code.POSE_INVALID: "The camera's pose in base_link is missing or no rigid transform.",
    Code.SUPPORT_PLANE_NOT_FOUND: "No flat surface dominates the depth image; give the camera's pose.",
    Code.CAMERA_NOT_FOUND: "No such camera is connected; look at plug, cable and serial number.",
    Code.CAMERA_UNPLUGGED: "The camera was lost; it is opened again as soon as it is back.",
    Code.FRAME_TIMEOUT: "No usable frame came in time; look at the camera and at the names of its topics.",
    Code.CAMERA_PROFILE_UNSUPPORTED: "The camera lacks the resolution, rate or option that was asked for.",
    Code.END_OF_SOURCE: "The folder or recording has come to its end.",
    Code.SOURCE_NOT_OPEN: "A frame was asked of a camera that is not open.",
    Code.CAMERA_FAILED: "The camera's driver failed; it is opened again.",
    Code.FRAME_UNPAIRED: "Colour came without depth of the same moment, or the reverse.",
    Code.STAMP_JUMPED_BACK: "Stamps went backwards: the camera was started anew, or a clock was set.",
    Code.CAMERA_INFO_MISSING: "Images come, but no camera_info.",
    Code.INPUT_ENCODING_MISMATCH: "An image has an encoding that is not understood.",
    Code.FRAME_ID_MISMATCH: "Colour, depth and camera_info name different frames; depth must be aligned to colour.",
    Code.MODEL_MISSING: "There is no model bundle in that folder.",
    Code.MODEL_HASH_MISMATCH: "A file of the bundle is not the one its manifest was written for; copy it again.",
    Code.MODEL_TENSOR_MISSING: "The bundle's head does not fit its network.",
    Code.MODEL_MANIFEST_INVALID: "The bundle's manifest cannot be read.",
    Code.ENGINE_UNKNOWN: "There is no inference engine of that name.",
    Code.ENGINE_FAILED: "The inference engine failed.",
    Code.NO_INSTANCE: "No parcel was seen.",
    Code.NO_GRASP: "Parcels were seen, but no grasp is good enough; the plan says why, candidate by candidate.",
    Code.CONFIG_UNREADABLE: "A configuration file cannot be read.",
    Code.CONFIG_UNKNOWN_KEY: "A parameter or key is not known; look for a slip in its name.",
    Code.CONFIG_OUT_OF_RANGE: "A parameter has a value that is not allowed.",
    Code.SCENARIO_UNKNOWN: "There is no scenario of that name.",
    Code.OPTION_INVALID: "Options do not go together, or one is not understood.",
    Code.DISK_FULL: "The disk is full, or nearly.",
    Code.RECORD_INVALID: "A decision record is damaged.",
    Code.DEPENDENCY_MISSING: "A library that this needs is not installed.",
    Code.SIMULATION_DIVERGED: "The simulated physics diverged in a pick; the pile is replaced.",
    Code.NODE_NOT_ACTIVE: "The node is not in the state that this needs; configure and activate it.",
    Code.INTERNAL_ERROR: "A bug: the node's log has the traceback. The node goes on.",
    Code.PARAMETER_LOCKED: "This parameter cannot change in the node's present state.",
    Code.TRANSITION_INVALID: "The node has no such transition in its present state.",
    Code.BAG_INVALID: "The recording is damaged or of another kind.",
    Code.BAG_TOPIC_MISSING: "The recording lacks a topic that is needed.",
    Code.RECORDER_BEHIND: "Disk or processor do not keep up with the recording; messages were dropped and counted.",
    Code.NODE_UNREACHABLE: "A node does not answer.",
    Code.TRANSITION_FAILED: "A node refused to be configured or activated; its log and diagnostics say why.",
    Code.TRANSITION_TIMEOUT: "A node took too long to be configured or activated.",
    Code.PROCESS_ENDED: "A process ended more often than it may be started again.",
    Code.FRAME_NONE: "No segmented frame has come yet; look at camera and segmentation.",
    Code.FRAME_STALE: "The newest frame is too old, or shows the pile before the last pick; ask again.",
    Code.PLAN_UNKNOWN: "That plan was not handed out by this run of the node; plan again.",
    Code.OUTCOME_INVALID: "The outcome names a grasp that the plan does not have, or holds impossible figures.",
    Code.PICK_UNFINISHED: "A grasp was handed out, and nobody told what became of it.",
    Code.SERVICE_UNAVAILABLE: "A service did not answer in time; is its node running?",
    Code.RECORD_DROPPED: "The recorder's disk is too slow; a pick was not recorded.",
}


def code_text(code: Code) -> str:
    """One line: what it means and what to do; the name in words where nothing more is known."""
    return CODE_TEXTS.get(code, code.name.replace("_", " ").lower())
