"""What holds for the whole suite: Ctrl-C means Ctrl-C, also where the suite was started in the background."""

import signal

# A shell starts background jobs with SIGINT ignored, and their children inherit that: the tests that press
# Ctrl-C in a process of their own would press it in vain. A handler of ours is not inherited; the default is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
