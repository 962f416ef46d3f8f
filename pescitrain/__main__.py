"""``python -m pescitrain``, and the program ``pescitrain``."""

import ctypes
import os
import signal
import sys


def start() -> None:
    """Prepare this process, which is ours alone, run the command, and exit with its code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before and after training: the end, without a traceback
    # Before numpy, PETSc and torch load their thread pools: ranks share the cores, torch gets its by -torch_threads.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if sys.platform == "linux":
        # glibc gives large blocks back to the system at every free; the same tensors come again at every evaluation.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for parameter, value in ((-3, 1 << 30), (-1, 1 << 30), (-2, 1 << 26)):  # mmap, trim, top pad
                libc.mallopt(parameter, value)

    from pescitrain.run.command import main

    sys.exit(main())


if __name__ == "__main__":
    start()
