"""Child process of ``_compile``: one NVRTC compilation, so that its crash is not ours.

Reads a JSON job ``{code, name, options, cubin, log}`` on stdin; writes the cubin and the log.
Exit code 0: compiled; 1: refused (the log says why). Run by path: imports nothing of the package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Compile the job on stdin."""
    from cupy_backends.cuda.libs import nvrtc

    job: dict[str, Any] = json.load(sys.stdin)
    program = nvrtc.createProgram(job["code"], job["name"], (), ())
    try:
        nvrtc.compileProgram(program, tuple(job["options"]))
    except nvrtc.NVRTCError:
        Path(job["log"]).write_text(nvrtc.getProgramLog(program))
        return 1
    Path(job["log"]).write_text(nvrtc.getProgramLog(program))
    Path(job["cubin"]).write_bytes(nvrtc.getCUBIN(program))
    return 0


if __name__ == "__main__":
    sys.exit(main())
