"""How do I serve an export without Docker?

    zoo serve served/flowers                 # http://127.0.0.1:8501/v1/models/flowers
    zoo serve served/flowers --port 9000     # on another port; stop it with Ctrl-C

Starts Ray Serve on this machine with the newest version of an export. Requests and answers are those of TensorFlow
Serving's REST API (`:predict` and the status of the model), so what works with one works with the other. Requests that
come in while the model is busy are answered together. It runs on the CPU.

    (echo '{"instances": [{"image_bytes": {"b64": "'; base64 < photo.jpg; echo '"}}]}') |
        curl -d @- http://127.0.0.1:8501/v1/models/flowers:predict

Only this machine can ask, unless --host says otherwise. Ray's processes talk to each other on other ports, which take
a token that is new every time. They are up in about 17 s, and take 0.7 GB besides the process that has the model. Ray's
usage statistics are off; its logs are below `/tmp/ray`.
"""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import tyro

from recipes.parts.command_line import guarded
from recipes.parts.extras import require
from recipes.parts.failure import Failed
from recipes.parts.names import printable
from recipes.parts.version_folder import check_name, find_version
from zoo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to serve, and where."""

    export: tyro.conf.Positional[Path]
    """The folder of a served model, of which the newest version is taken, or of one of its versions."""
    name: str | None = None
    """What clients call it; by default as its folder is called."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets other machines ask too, and nothing asks them for a password."""
    port: int = 8501
    """The port to listen on."""


def run(config: Config) -> None:
    """Serve an export until this process is told to stop.

    Args:
        config: What to serve, and where.

    Raises:
        InputError: If it is no export, the address is not free, or Ray Serve is not installed.
        Failed: If the server cannot start.
    """
    folder = find_version(config.export).resolve()
    name = check_name(folder.parent.name if config.name is None else config.name)
    version = int(folder.name) if folder.name.isascii() and folder.name.isdigit() else 1
    check_address(config.host, config.port)
    with started_ray(config.host, config.port):
        from ray import serve

        from recipes.parts.model_server import BATCH, ModelServer

        # As many requests as two batches may wait inside, so that the next batch is there when one is done.
        deployment = serve.deployment(ModelServer).options(
            max_ongoing_requests=2 * BATCH, max_constructor_retry_count=1, ray_actor_options={"num_cpus": 0}
        )
        stopped = stop_signals()
        try:
            serve.run(deployment.bind(folder, name, version))
        except RuntimeError:
            (found,) = serve.status().applications["default"].deployments.values()
            *_, reason = found.message.strip().splitlines()  # of a traceback
            raise Failed(f"The server did not start: {printable(reason)}") from None
        print(f"http://{config.host}:{config.port}/v1/models/{quote(name)}", flush=True)
        stopped.wait()
        serve.delete("default")  # which lets requests end


def check_address(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot listen on {host}, port {port}: {reason}. Choose others with --host, --port") from None


@contextmanager
def started_ray(host: str, port: int) -> Iterator[None]:
    """Start a Ray of our own, that only this machine can reach, with an HTTP server; end all of it at the end."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on loopback, as it does on those; there is no other switch
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    require("serving")  # now, as Ray reads some of this when it is imported
    import ray
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        serve.start(http_options={"host": host, "port": port})
        yield
    finally:
        ray.shutdown()


def stop_signals() -> threading.Event:
    """What is set when this process is told to stop."""
    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, frame: stopped.set())
    return stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of this recipe."""
    return guarded(lambda: run(tyro.cli(Config, args=arguments, prog="zoo serve", description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())
