"""The report of `benchmarks.serve`: what it holds, and its table in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from anon_runtime.guard.options import Mode


@dataclass(frozen=True)
class Overhead:
    """What the service adds to the time of a portrait when nobody else asks.

    Attributes:
        pairs: the number of requests, each beside the same work in this process; all gave the same bytes.
        steps: of the sampler.
        alone: median time of a portrait in this process, in ms.
        p50, p99: percentiles of the differences, request by request, in ms.
        noise: the 99th percentile of the differences of two equal calls in this process, in ms: nothing that is less
            than this can be told from what the machine itself does.
    """

    pairs: int
    steps: int
    alone: float
    p50: float
    p99: float
    noise: float


@dataclass(frozen=True)
class Throughput:
    """Portraits a second of a service that always has requests waiting, beside folder runs, by round.

    Attributes:
        photos: the number of photos of a round.
        steps: of the sampler.
        batch: the largest number of portraits that are painted together.
        users: of the load.
        service, folder: portraits a second.
        locust: processor time of locust while the load lasts, as a share of that time; 1 is a whole core.
        locust_seconds: processor time of locust with its start and its end.
    """

    photos: int
    steps: int
    batch: int
    users: int
    service: list[float]
    folder: list[float]
    locust: list[float]
    locust_seconds: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as a folder run the service is, by round."""
        return [own / other for own, other in zip(self.service, self.folder, strict=True)]


@dataclass(frozen=True)
class Memory:
    """Resident memory of the service's process over many requests.

    Attributes:
        requests: the numbers of requests after which it was measured.
        sizes: what was measured, in KB.
        first, last, highest: of the sizes.
        slope: of the line of least squares through the second half, in KB per request.
    """

    requests: list[int]
    sizes: list[float]
    first: float
    last: float
    highest: float
    slope: float


@dataclass(frozen=True)
class Report:
    """Everything that is measured.

    Attributes:
        processor: its name.
        cores: the number of logical cores that this process may use.
        threads: the number of threads of an engine, in the service and beside it; None on a GPU.
        bundle: the name of the bundle.
        guard: the mode of the guard in the comparisons.
        overhead, throughput, memory: the figures.
    """

    processor: str
    cores: int
    threads: int | None
    bundle: str
    guard: Mode
    overhead: Overhead
    throughput: Throughput
    memory: Memory


def table(report: Report) -> list[str]:
    """The lines of the report in Markdown."""
    threads = "" if report.threads is None else f", {report.threads} threads for an engine"
    rows = (*_overhead(report.overhead), *_throughput(report.throughput), *_memory(report.memory))
    return [
        f"{report.processor}, {report.cores} cores{threads}; bundle {report.bundle}, guard {report.guard}",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _overhead(found: Overhead) -> Sequence[tuple[str, str, str]]:
    what = f"{found.pairs} photos, {found.steps} steps, one client"
    return (
        (f"a portrait without the service ({what})", f"{found.alone:.1f} ms", ""),
        ("what the service adds, 50th percentile", f"{found.p50:.2f} ms", "5 ms"),
        ("what the service adds, 99th percentile", f"{found.p99:.2f} ms", "15 ms"),
        ("the same of two equal calls without the service, 99th percentile", f"{found.noise:.2f} ms", ""),
    )


def _throughput(found: Throughput) -> Sequence[tuple[str, str, str]]:
    what = f"{found.photos} photos, {found.steps} steps, batches of {found.batch}"
    used = f"{median(found.locust):.1%} of a core ({max(found.locust_seconds):.1f} s with its start and its end)"
    return (
        (f"portraits a second of the service ({what}, {found.users} users)", _spread(found.service), ""),
        (f"portraits a second of a folder run ({what})", _spread(found.folder), ""),
        ("speed of the service relative to a folder run", _spread(found.ratios), "0.95"),
        ("processor time of locust while the service was measured", used, ""),
    )


def _memory(found: Memory) -> Sequence[tuple[str, str, str]]:
    first, last, highest = (size / 1e3 for size in (found.first, found.last, found.highest))
    return (
        (f"memory of the service, first and after {found.requests[-1]} requests", f"{first:.1f} and {last:.1f} MB", ""),
        ("memory of the service, highest", f"{highest:.1f} MB", ""),
        ("growth of the memory in the second half", f"{found.slope:.3f} KB per request", ""),
    )


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}-{max(values):.3f})"
