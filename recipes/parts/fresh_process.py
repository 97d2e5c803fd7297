"""Ask a script of ours in a process of its own, which has nothing of what this one has loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from recipes.parts.failure import Failed
from recipes.parts.names import printable


def ask(script: str, *arguments: str, folder: Path | str, failed: str) -> Any:
    """Run a script, and read the JSON that it prints last.

    Args:
        script: Its path; none of our packages can be imported from where it stands.
        *arguments: Its arguments.
        folder: Where it runs.
        failed: What could not be done if it fails, such as "The check of the export could not run".

    Returns:
        What it printed in its last line.

    Raises:
        Failed: If it fails; one line with its last words.
    """
    done = subprocess.run(  # noqa: S603  # our own script; each argument is one, whatever is in it
        # -P keeps the script's own folder, which is ours, off the path.
        [sys.executable, "-P", script, *arguments],
        cwd=folder,
        # On the CPU: this process may hold all memory of a GPU.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Failed(f"{failed}: {printable(reason)}")
    return json.loads(done.stdout.splitlines()[-1])
