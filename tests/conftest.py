"""What holds for the whole suite: one thread a process, and Ctrl-C means Ctrl-C, also in the background."""

import os
import signal

# Processes share the cores among themselves: with a thread a core in each of them, small operations would mostly
# wait for threads that are not running. Child processes inherit it. Set before anything imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with SIGINT ignored, and their children inherit that: the tests that press
# Ctrl-C in a process of their own would press it in vain. A handler of ours is not inherited; the default is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
