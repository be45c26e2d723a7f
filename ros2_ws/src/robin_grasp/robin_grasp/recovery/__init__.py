"""What is done about a pick that is not as it should be, and when a person is asked."""

from robin_grasp.recovery.action import Action as Action
