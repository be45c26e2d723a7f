"""The ``robin`` command line: one module per sub-command, each a thin layer over the rooms' own functions."""
