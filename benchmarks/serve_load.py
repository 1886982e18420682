"""The load of `benchmarks.serve`: a file for locust, whose users send forms until each form was sent once.

Locust loads this file on its own, so that it imports nothing of this project.
"""

import json
import time
from argparse import ArgumentParser
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import FastHttpUser, events
from locust.exception import StopUser

SECONDS = 3600.0  # that an answer may take; a large bundle on a slow processor needs minutes for a full queue


@dataclass
class Load:
    """The forms, and how far the users are.

    Attributes:
        forms: the forms that are still to be sent.
        content_type: the header of all forms.
        report: the file that gets the figures when all forms are answered.
        left: the number of forms that are not answered yet.
        statuses: the number of answers by status; the status is 0 where a connection failed.
        begin, used: the time and the processor time of this process when the first form is sent.
    """

    forms: deque[bytes]
    content_type: str
    report: Path
    left: int
    statuses: Counter[int] = field(default_factory=Counter)
    begin: float = 0.0
    used: float = 0.0

    def take(self) -> bytes:
        """Return the next form.

        Raises:
            StopUser: there is none.
        """
        if not self.forms:
            raise StopUser
        if not self.begin:
            self.begin, self.used = time.perf_counter(), time.process_time()
        return self.forms.popleft()

    def answered(self, status: int) -> bool:
        """Count an answer, and return whether it was the last one; then the figures are written."""
        self.statuses[status] += 1
        self.left -= 1
        if self.left:
            return False
        seconds, used = time.perf_counter() - self.begin, time.process_time() - self.used
        figures = {"seconds": seconds, "processor_seconds": used, "statuses": self.statuses}
        self.report.write_text(json.dumps(figures), encoding="utf-8")
        return True


def send(user: Any) -> None:
    """Send one form, and end the run after the last answer."""
    load: Load = user.environment.load
    form, headers = load.take(), {"Content-Type": load.content_type}
    if load.answered(user.client.post("/v1/portraits", data=form, headers=headers).status_code):
        # A greenlet of its own, since quitting kills the users, and would end half-way with the one that does it.
        gevent.spawn(user.environment.runner.quit)


class Visitor(FastHttpUser):  # type: ignore[misc]
    """A user who sends the next form as soon as the last one is answered."""

    tasks: ClassVar = [send]
    connection_timeout = network_timeout = SECONDS


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this file to those of locust."""
    parser.add_argument("--forms", type=Path, help="folder with a file for the body of each request")
    parser.add_argument("--content-type", help="of the bodies")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")


def prepare(environment: Any, **_: Any) -> None:
    """Read all forms, so that no user waits for the disk."""
    options = environment.parsed_options
    forms = deque(path.read_bytes() for path in sorted(options.forms.iterdir()))
    environment.load = Load(forms, options.content_type, options.report, len(forms))


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(prepare)
