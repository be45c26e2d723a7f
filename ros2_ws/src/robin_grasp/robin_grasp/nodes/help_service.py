"""The help desk over ROS: a topic that shows requests, services that list and answer them."""

from __future__ import annotations

import threading
from typing import Any

from robin_msgs.msg import HelpRequest as HelpRequestMsg
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from robin_grasp.recovery.help_request import HelpRequest
from robin_grasp.recovery.station import StationRecovery
from robin_perception.nodes.base import RobinNode
from robin_perception.nodes.convert import stamp_from_s
from robin_perception.nodes.qos import LATCHED
from robin_perception.topics import HELP


def help_to_msg(request: HelpRequest, folder: str, picture: bytes) -> HelpRequestMsg:
    """folder: of the help desk. picture: JPEG, empty for none."""
    return HelpRequestMsg(
        header=Header(stamp=stamp_from_s(request.asked_s)),
        help_id=request.help_id,
        code=int(request.code),
        text=request.text,
        plan_id=request.plan_id,
        answers=list(request.answers),
        timeout_s=float(request.timeout_s),
        timeout_answer=request.timeout_answer,
        picture_path=f"{folder}/{request.picture}" if request.picture else "",
        picture=CompressedImage(format="jpeg", data=picture),
        answer=request.answer,
        answered_by=request.answered_by,
    )


class HelpService:
    """Made in the node's ``setup``. A request is published when it is asked and when it is closed."""

    def __init__(self, node: RobinNode[Any], station: StationRecovery, folder: str) -> None:
        self._node, self._station, self._folder = node, station, folder
        self._publisher = node.add_publisher(HelpRequestMsg, HELP, LATCHED)
        self._lock = threading.Lock()
        self._told: dict[str, bool] = {}

    def tell(self) -> None:
        """Publish what is new; time-outs, and answers from other processes, are noticed here. An open request stands
        in diagnostics. Any thread."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        self._station.tick()
        for request in self._station.desk.requests(answered=True):
            if self._told.get(request.help_id) == request.is_open:
                continue
            self._told[request.help_id] = request.is_open
            self._publisher.publish(self._message(request))
            if request.is_open:
                text = f"'{request.help_id}': {request.text} (answers: {', '.join(request.answers)})"
                self._node.report(request.code, text, warning=True, lasting=True)
            elif not any(other.code is request.code for other in self._station.desk.requests()):
                self._node.recovered(f"help '{request.help_id}', answered '{request.answer}'", request.code)

    def list(self, request: Any, response: Any) -> Any:
        """Answers ListHelp."""
        response.requests = [self._message(r) for r in self._station.desk.requests(answered=bool(request.all))]
        response.text = f"{len(response.requests)} requests"
        return response

    def answer(self, request: Any, response: Any) -> Any:
        """Answers AnswerHelp. Raises RobinError HELP_NOT_OPEN, HELP_ANSWER_INVALID."""
        closed = self._station.answer(request.help_id, request.answer, request.answered_by)
        self.tell()
        response.text = f"'{closed.help_id}' is answered '{closed.answer}'"
        return response

    def _message(self, request: HelpRequest) -> HelpRequestMsg:
        return help_to_msg(request, self._folder, self._station.desk.picture(request.help_id))
