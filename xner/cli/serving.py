"""The tool ``serve``: its options, the socket, and how it ends."""

import argparse
import signal
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from types import FrameType
from typing import NoReturn

from xner.cli.output import configure_logging, say
from xner.cli.parsing import ToolParser, add_model, add_tagger_options
from xner.errors import RunError, Stopped, UserError

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine in the header ``Host``."""

_PATIENCE = 5
"""Seconds that requests in progress are given when the server ends."""


def serve(args: Sequence[str]) -> None:
    """Answer requests with the entities of texts until the process is stopped."""
    parser = ToolParser("serve", "Try a model on a page in the browser, or by JSON over HTTP (POST /tag).")
    add_model(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; another one than this machine's own is open to everyone who reaches it",
    )
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 is a free one")
    parser.add_argument(
        "--allowed_hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further names of this machine, without port, in the addresses that browsers open, such as "
        "ner.example.org; requests to other names are refused",
    )
    add_tagger_options(parser)
    options = parser.parse_args(args)
    _check(options)
    try:
        import uvicorn

        from xner.serve.application import make_application
    except ImportError as error:
        raise UserError("serve needs starlette and uvicorn; use pip install '.[serve]'") from error
    with _listen(options.host, options.port) as listener:
        from xner.tagger import Tagger

        configure_logging()
        tagger = Tagger.from_pretrained(options.model, precision=options.precision, decoding=options.decoding)
        host = f"[{options.host}]" if ":" in options.host else options.host
        hosts = [*_LOCAL, host, socket.gethostname(), *options.allowed_hosts]
        config = uvicorn.Config(
            make_application(tagger, tagger.network.tag_set.types, hosts=hosts),
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=_PATIENCE,
        )
        port = listener.getsockname()[1]
        if not _is_loopback(listener):
            say(f"There is no login: everyone who reaches port {port} of {options.host} can use the model.")
        say(f"http://{host}:{port} (Ctrl-C ends it)")
        # The server catches the signal, ends what is in progress, and raises it again.
        before = signal.signal(signal.SIGTERM, _stop)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            signal.signal(signal.SIGTERM, before)


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.port <= 65535:
        raise UserError(f"port={options.port} is not a port; use 1 to 65535, or 0 for a free one")
    for name in options.allowed_hosts:
        if "*" in name.removeprefix("*.") and name != "*":
            raise UserError(f"allowed_hosts={name!r} is not a name; use one such as ner.example.org or *.example.org")


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket before the model is loaded.

    Raises:
        UserError: If the host is not one of this machine.
        RunError: If the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        [*_, (_, _, _, _, address)] = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"host={host!r} is not an address; use one of this machine, such as 127.0.0.1") from error
    try:
        return socket.create_server(address, family=family)
    except OSError as error:
        raise RunError(f"port={port} of host={host!r} cannot be used ({error.strerror}); use another one") from error


def _is_loopback(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0]).is_loopback


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped("stopped by SIGTERM", 128 + number)
