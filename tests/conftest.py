"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import tempfile

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What tests grant is not the user's (`redraft.trust`).
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="redraft-tests-")
