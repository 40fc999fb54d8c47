"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import tempfile

from hypothesis import settings

# The same examples in each run: what passed here passes in CI. HYPOTHESIS=search looks for others.
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("search")
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the commands that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What tests grant is not the user's (`redraft.trust`).
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="redraft-tests-")
