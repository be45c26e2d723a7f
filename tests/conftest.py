"""What holds for all tests."""

import signal

# A shell's background jobs ignore it, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
