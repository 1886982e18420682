"""The command ``anon-serve``: its options, and the conversion of errors into messages and exit codes."""

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from .anonymizer import Anonymizer
from .console import logging_to_stderr
from .errors import AnonError, UsageError, in_flags
from .fast_help import DEFAULT_BUNDLE
from .folder.ray_cluster import LOCAL, connect
from .guard.options import MODES
from .settings import Settings

log = logging.getLogger(__name__)
EPILOG = """\b
Examples:
  anon-serve                                    http://127.0.0.1:8000, for programs of this machine
  anon-serve --engines engines/mine --port 9000
  anon-serve --host 0.0.0.0 --token-file token  for other machines, which have to send the token
  anon-serve --review out/                      a page to decide about the portraits of a folder
  curl -F photo=@photo.jpg -F seed=7 http://127.0.0.1:8000/v1/portraits -o portrait.png
"""


# fmt: off
@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--engines", default=DEFAULT_BUNDLE, show_default=True, type=click.Path(path_type=Path),
              help="The folder of the bundle, made by `anon-export build`.")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="The address to listen at. Any other than this machine's own needs --token-file.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535),
              help="The port to listen at; 0 is any free one.")
@click.option("--token-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="A file with the token that requests have to carry, as `Authorization: Bearer TOKEN`.")
@click.option("--allow-origin", multiple=True, metavar="ORIGIN",
              help="Let pages of this origin use the service, such as https://example.org. Several are allowed.")
@click.option("--guard", type=click.Choice(MODES),
              help="The weakest guard; requests may choose a stricter one.  [default: strict if the bundle can "
                   "recognize faces]")
@click.option("--device", type=click.Choice(("cpu", "cuda", "tensorrt")), help="As for anon-run.")
@click.option("--threads", type=click.IntRange(1), help="As for anon-run.")
@click.option("--batch-size", type=click.IntRange(1),
              help="The largest number of portraits that are painted together.  [default: the bundle's]")
@click.option("--wait", type=click.FloatRange(0), default=5, show_default=True, metavar="MS",
              help="How long a batch waits for more requests, in milliseconds.")
@click.option("--queue", type=click.IntRange(1), default=64, show_default=True, metavar="N",
              help="The largest number of requests that arrive, wait or are worked on. Others get status 503.")
@click.option("--deadline", type=click.FloatRange(0, min_open=True), default=600, show_default=True, metavar="S",
              help="How long a request may take, in seconds.")
@click.option("--max-bytes", type=click.IntRange(1), default=32 * 2**20, show_default=True, metavar="N",
              help="The largest body of a request, in bytes.")
@click.option("--review", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="OUT",
              help="Let people look at the portraits of an output folder, and accept, refuse or send them back.")
@click.option("--ray", is_flag=False, flag_value=LOCAL, metavar="[ADDRESS]",
              help="Answer on a Ray cluster, with one replica for each GPU, or for each group of as many cores as "
                   "--threads says. Without ADDRESS, on this machine. Put this option last, or write --ray=ADDRESS.")
@click.option("--checksum/--no-checksum", default=True, help="As for anon-run.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")
@click.version_option(package_name="anon-engines", prog_name="anon-serve")
def command(**options: Any) -> None:
    """Give portraits over HTTP: the same bytes as anon-run, for the same photo, seed and settings.

    Photos and portraits stay in memory and are written neither to disk nor into a log. GET /openapi.json describes all
    routes. The service ends after Ctrl-C or a termination signal, when what is being painted is done.
    """
    # fmt: on
    with logging_to_stderr(quiet=options["quiet"], flags=FLAGS):
        run(**options)


FLAGS = {str(param.name): max(param.opts, key=len) for param in command.params if param.opts}


def run(
    *,
    engines: Path,
    host: str,
    port: int,
    token_file: Path | None,
    allow_origin: Sequence[str],
    guard: str | None,
    device: str | None,
    threads: int | None,
    batch_size: int | None,
    wait: float,
    queue: int,
    deadline: float,
    max_bytes: int,
    review: Path | None,
    ray: str | None,
    checksum: bool,
    quiet: bool,
) -> None:
    """Serve until a signal; see the help of the options.

    Raises:
        AnonError: the service cannot begin.
    """
    try:
        from .folder.review import Review
        from .service.application import create_application
        from .service.options import Access, ServiceOptions
        from .service.protection import protect
        from .service.ray_replicas import serve_on_ray
        from .service.server import serve
    except ModuleNotFoundError as error:
        why = f"the package {error.name} is not installed"
        raise UsageError("the service", why, "install `anon-engines[serve]`") from None
    if review is not None and ray is not None:
        raise UsageError("`review`", "the machines of a cluster do not share it", "leave out `ray`")
    access = Access.of(host, token_file, allow_origin)
    settings = Settings(guard=guard)  # type: ignore[arg-type]
    load = partial(Anonymizer.load, engines, settings, device=device, threads=threads, checksum=checksum)
    with load() as anonymizer:
        anonymizer.check()
        size = anonymizer.engines.bundle.manifest.defaults.batch_size if batch_size is None else batch_size
        limits = ServiceOptions(size, wait / 1000, queue, deadline, max_bytes)
        if ray is None:
            if review is not None:  # a million lines take a quarter of a minute
                log.info("reading the journal of %s, whose review is the page #review of this service", review)
            app = create_application(anonymizer, limits, None if review is None else Review(review))
            serve(protect(app, limits, access), host, port, quiet=quiet)
            return
        with connect(ray, load, device=anonymizer.engines.device, threads=threads) as cluster:
            serve_on_ray(cluster, limits, access, host, port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; this is the entry point, which turns errors into one line and an exit code.

    Args:
        arguments: the arguments of the command; None means those of the process.
    """
    try:
        command(arguments, prog_name="anon-serve", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except AnonError as error:
        click.echo(f"anon-serve: error: {in_flags(str(error), FLAGS)}", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
