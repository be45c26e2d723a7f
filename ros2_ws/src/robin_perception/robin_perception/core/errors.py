"""Numbered reasons: every failure that leaves a room carries a code and one clear line of text."""

from __future__ import annotations

import re
from enum import IntEnum

_LONGEST_TEXT = 1200
_LINE = re.compile(r"E([0-9]{1,4}) [A-Z0-9_]+: (.*)")


class Code(IntEnum):
    """Numbers a caller can act on. 1xx input, 2xx model and engine, 3xx planning, 4xx configuration, 5xx cell and
    disk, 6xx nodes, 7xx the store of samples,
    the labels of picks, what is learned from them, and the versions of models, 8xx the fleet,
    9xx the page."""

    OK = 0
    INPUT_MISSING = 101
    INPUT_UNREADABLE = 102
    INPUT_SIZE_MISMATCH = 103
    DEPTH_EMPTY = 104
    DEPTH_NOT_FINITE = 105
    INTRINSICS_INVALID = 106
    POSE_INVALID = 107
    SUPPORT_PLANE_NOT_FOUND = 108
    POSE_DOUBTFUL = 109
    POSE_CONTRADICTED = 110
    CAMERA_NOT_FOUND = 111
    CAMERA_UNPLUGGED = 112
    FRAME_TIMEOUT = 113
    CAMERA_PROFILE_UNSUPPORTED = 114
    END_OF_SOURCE = 115
    SOURCE_NOT_OPEN = 116
    CAMERA_FAILED = 117
    FRAME_UNPAIRED = 118
    STAMP_JUMPED_BACK = 119
    CAMERA_INFO_MISSING = 120
    INPUT_ENCODING_MISMATCH = 121
    FRAME_ID_MISMATCH = 122
    DEPTH_UNIT_SUSPECT = 123
    DEPTH_CONSTANT = 124
    PICTURE_FROZEN = 125
    SUPPORT_PLANE_BARE = 126
    SUPPORT_PLANE_AMBIGUOUS = 127
    INPUT_TOO_LARGE = 131
    LIGHT_LOW = 141
    LIGHT_EXCESSIVE = 142
    PICTURE_BLURRED = 143
    LENS_DIRTY = 144
    DEPTH_HOLES = 145
    CAMERA_MOVED = 146
    COLOUR_DEPTH_APART = 147
    BASELINE_DAMAGED = 151
    BASELINE_FOREIGN = 152
    BASELINE_TOO_SHORT = 153
    NOVELTY_STATISTICS_MISSING = 161
    NOVELTY_STATISTICS_MISMATCH = 162
    NOVELTY_STATISTICS_INVALID = 163
    NOVELTY_CALIBRATION_INVALID = 164
    NOVELTY_TOO_FEW = 165
    GOODS_UNFAMILIAR = 166
    GOODS_RECURRING = 167
    NOVELTY_STORE_DAMAGED = 168
    FILM_NETWORK_INVALID = 171
    MODEL_MISSING = 201
    MODEL_HASH_MISMATCH = 202
    MODEL_TENSOR_MISSING = 203
    MODEL_MANIFEST_INVALID = 204
    ENGINE_UNKNOWN = 205
    ENGINE_FAILED = 206
    ENGINE_UNAVAILABLE = 207
    HEAD_REJECTED = 208
    HEAD_SUPERSEDED = 209
    ENGINE_BUILD_FAILED = 210
    ENGINE_OPERATOR_UNSUPPORTED = 211
    ENGINE_OUT_OF_MEMORY = 212
    ENGINE_DISAGREES = 213
    ENGINE_HUNG = 221
    ENGINE_CRASHED = 222
    ENGINE_OUTPUT_INVALID = 223
    ENGINE_GIVEN_UP = 224
    ENGINE_STARTING = 225
    NO_INSTANCE = 301
    NO_GRASP = 302
    CONFIG_UNREADABLE = 401
    CONFIG_UNKNOWN_KEY = 402
    CONFIG_OUT_OF_RANGE = 403
    SCENARIO_UNKNOWN = 404
    OPTION_INVALID = 405
    DISK_FULL = 501
    RECORD_INVALID = 502
    DEPENDENCY_MISSING = 503
    BAG_INVALID = 504
    BAG_TOPIC_MISSING = 505
    RECORDER_BEHIND = 506
    SIMULATION_DIVERGED = 507
    NODE_NOT_ACTIVE = 601
    INTERNAL_ERROR = 602
    PARAMETER_LOCKED = 603
    TRANSITION_INVALID = 604
    NODE_STILL_BUSY = 605
    CLOCK_MISSING = 606
    FRAME_NONE = 611
    FRAME_STALE = 612
    PLAN_UNKNOWN = 613
    OUTCOME_INVALID = 614
    PICK_UNFINISHED = 615
    SERVICE_UNAVAILABLE = 616
    RECORD_DROPPED = 617
    ID_INVALID = 618
    PATH_REFUSED = 619
    NODE_UNREACHABLE = 621
    TRANSITION_FAILED = 622
    TRANSITION_TIMEOUT = 623
    PROCESS_ENDED = 624
    TRACES_INVALID = 641
    TRACES_MISSING = 642
    FRAME_AFTER_MISSING = 643
    FRAME_AFTER_UNUSABLE = 644
    LOAD_VIEW_MISSING = 645
    LOAD_VIEW_UNUSABLE = 646
    LOAD_NOT_SEGMENTED = 647
    PARCEL_NOT_HELD = 651
    LOAD_DOUBTFUL = 652
    PICKS_FAILING = 653
    HELP_NOT_OPEN = 654
    DESTINATION_WRONG = 655
    HELP_ANSWER_INVALID = 656
    HELP_TIMED_OUT = 657
    HELP_RECORD_DAMAGED = 658
    HELP_NOT_KEPT = 659
    CUP_BLOCKED = 661
    CUP_WEAK = 662
    CUPS_STATE_DAMAGED = 663
    CUPS_NOT_SAVED = 664
    CUPS_MISMATCH = 665
    GOODS_SELDOM_HELD = 671
    HOLDING_DAMAGED = 672
    HOLDING_NOT_SAVED = 673
    STORE_MISSING = 701
    STORE_BUSY = 702
    STORE_INDEX_DAMAGED = 703
    STORE_BLOB_DAMAGED = 704
    STORE_BLOB_MISSING = 705
    STORE_VERSION = 706
    STORE_SQLITE_OLD = 707
    STORE_FULL = 708
    LABEL_STATION = 711
    LABEL_UNSURE = 712
    LABEL_NOTHING_SAID = 713
    LABEL_UNCLEAR = 714
    ANNOTATION_INVALID = 721
    TAUGHT_TOO_LITTLE = 722
    TEACHING_DIVERGED = 723
    TEACHING_ENDED = 724
    FEATURES_FOREIGN = 725
    CANDIDATE_REFUSED = 731
    CANDIDATE_UNJUDGED = 732
    VERSION_UNKNOWN = 733
    VERSION_DAMAGED = 734
    VERSION_PINNED = 735
    MODELS_BUSY = 736
    MODELS_DAMAGED = 737
    MODEL_PICKS_WORSE = 738
    SHADOW_REFUSED = 739
    UPLINK_UNREACHABLE = 801
    UPLINK_NOT_ENROLLED = 802
    UPLINK_KEY_REFUSED = 803
    UPLINK_IDENTITY_INVALID = 804
    UPLINK_REFUSED = 805
    UPLINK_LOST = 806
    UPLINK_ENDED = 807
    UPLINK_FLEET_LOST = 808
    UPLINK_BUSY = 809
    ENROLMENT_REFUSED = 810
    OUTBOX_FULL = 811
    FORMAT_NEWER = 812
    FLEET_MISSING = 821
    LEDGER_UNREACHABLE = 822
    LEDGER_BUSY = 823
    LEDGER_DAMAGED = 824
    LEDGER_VERSION = 825
    LEDGER_UNFIT = 826
    OBJECT_MISSING = 827
    OBJECT_DAMAGED = 828
    OBJECT_TAKEN = 829
    OBJECTS_UNREACHABLE = 830
    OBJECTS_UNFIT = 831
    BLOB_REFUSED = 832
    SAMPLE_INCOMPLETE = 833
    SAMPLE_WAITING = 834
    COMPUTE_UNREACHABLE = 836
    COMPUTE_FAILED = 837
    NOVELTY_UNKNOWN = 841
    ANNOTATION_FOREIGN = 842
    DECK_UNKNOWN = 843
    DECK_EMPTY = 844
    DECK_DAMAGED = 845
    TRAINING_UNKNOWN = 846
    TRAINING_REFUSED = 847
    RELEASE_KEY_INVALID = 861
    RELEASE_INVALID = 862
    RELEASE_INCOMPATIBLE = 863
    RELEASE_UNSIGNED = 864
    RELEASE_UNKNOWN = 865
    RELEASE_TAMPERED = 866
    RELEASE_EXPIRED = 867
    RELEASE_ROLLED_BACK = 868
    RELEASE_MIXED = 869
    RELEASE_ENDLESS = 870
    RELEASE_UNREACHABLE = 871
    RELEASE_ROOT_INVALID = 872
    ROLLOUT_UNKNOWN = 873
    ROLLOUT_STATE = 874
    ROLLOUT_NO_ROBOTS = 875
    ROLLOUT_WORSE = 876
    ROLLOUT_TRIAL = 877
    ROLLOUT_WENT_BACK = 878
    METRICS_INVALID = 881
    CORRELATE_TOO_LITTLE = 882
    CORRELATE_UNKNOWN = 883
    MESSAGE_MALFORMED = 891
    KEY_REVOKED = 893
    TOKEN_INVALID = 894
    UPLOAD_TOO_LARGE = 895
    SERVER_BUSY = 896
    UPLOAD_NOT_KEPT = 897
    SERVER_KEYS_INVALID = 898
    LISTEN_FAILED = 899
    VIEW_HOST_FOREIGN = 901
    VIEW_ORIGIN_FOREIGN = 902
    VIEW_LOGIN_NEEDED = 903
    VIEW_TOKEN_WRONG = 904
    VIEW_READ_ONLY = 905
    VIEW_UNKNOWN = 906
    VIEW_WORKER_LOST = 907
    VIEW_BUSY = 908
    ANNOTATION_STALE = 911


def printable(text: str) -> str:
    """``text`` with its control characters escaped: a terminal would obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """``text`` as one printable line of bounded length: what a file or a peer sent may stand in it."""
    plain = printable(text[:_LONGEST_TEXT])
    return plain if max(len(plain), len(text)) <= _LONGEST_TEXT else f"{plain[: _LONGEST_TEXT - 4]} ..."


class RobinError(Exception):
    """An expected failure. ``code`` is for programs, ``text`` is one line that names the file or key at fault."""

    def __init__(self, code: Code, text: str) -> None:
        text = one_line(text)
        super().__init__(f"E{int(code)} {code.name}: {text}")
        self.code = code
        self.text = text

    def __reduce__(self) -> tuple[type[RobinError], tuple[Code, str]]:
        """Travels between processes as (code, text); the default would call __init__ with the joined text alone."""
        return RobinError, (self.code, self.text)


def parse_error(line: str) -> RobinError | None:
    """The error that a line of another process tells, as ``str`` writes it; None for any other line."""
    found = _LINE.match(line)
    if found is None or int(found[1]) not in set(Code):
        return None
    return RobinError(Code(int(found[1])), found[2])
