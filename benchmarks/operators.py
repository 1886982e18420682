"""Time of an engine by type of operator.

    python -m benchmarks.operators engines/demo unet [--repeats 5] [--batch 2]

Runs an engine of a bundle with the profiler of its library, on the inputs that the bundle's verification uses.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from operator import itemgetter
from pathlib import Path

import numpy as np

from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS
from anon_runtime.backends.base import Placement
from anon_runtime.backends.openvino import import_openvino, settings
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.errors import UsageError
from anon_runtime.types import Arrays

from .command_line import one_line_errors

Times = dict[str, float]


def onnxruntime_times(path: Path, inputs: Arrays, repeats: int, _precision: str) -> Times:
    """Seconds per call by operator, from onnxruntime's profiler; the session has the options of the runtime."""
    import onnxruntime

    from anon_runtime.backends.onnxruntime import session_arguments

    arguments = session_arguments(path)
    arguments["sess_options"].enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        arguments["sess_options"].profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"], **arguments)
        for _ in range(repeats + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    # The calls of the first run also allocate memory; they are not counted.
    calls: dict[str, list[tuple[str, float]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            calls.setdefault(event["name"], []).append((event["args"]["op_name"], event["dur"] / 1e6))
    times: defaultdict[str, float] = defaultdict(float)
    for rounds in calls.values():
        for operator, seconds in rounds[len(rounds) // (repeats + 1) :]:
            times[operator] += seconds / repeats
    return times


def openvino_times(path: Path, inputs: Arrays, repeats: int, precision: str) -> Times:
    """Seconds per call by operator, from OpenVINO's performance counters; its settings are those of the runtime."""
    openvino = import_openvino()
    own = settings(Placement(precision=precision), openvino.__version__) | {"PERF_COUNT": True}
    request = openvino.Core().compile_model(path, "CPU", own).create_infer_request()
    times: defaultdict[str, float] = defaultdict(float)
    for run in range(repeats + 1):
        request.infer({name: np.asarray(array) for name, array in inputs.items()})
        for entry in request.get_profiling_info() if run else ():
            times[entry.node_type] += entry.real_time.total_seconds() / repeats
    return times


PROFILERS = {"onnxruntime": onnxruntime_times, "openvino": openvino_times}


def profile(bundle: Bundle, role: str, repeats: int, batch: int) -> Times:
    """Seconds per call of one engine, by type of operator.

    Raises:
        UsageError: the bundle is for a target whose profiler is another program.
    """
    target, path = bundle.manifest.target, bundle.engine_path(role)
    if target not in PROFILERS:
        why = f"this benchmark does not measure engines for {target}"
        raise UsageError(str(bundle.path), why, "use nsys or `trtexec --dumpProfile`")
    with np.load(path.with_name(REFERENCE_OUTPUTS), allow_pickle=False) as kept:
        inputs = {name.removeprefix("input "): kept[name] for name in kept.files if name.startswith("input ")}
    widened = {name: np.repeat(array, batch, axis=0) if array.ndim else array for name, array in inputs.items()}
    return PROFILERS[target](path, widened, repeats, bundle.spec(role).precision)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument("role", help="role of the engine, such as unet")
    parser.add_argument("--repeats", type=int, default=5, help="number of calls that are measured")
    parser.add_argument("--batch", type=int, default=1, help="repeat the inputs of the bundle so many times in a batch")
    options = parser.parse_args()
    times = profile(Bundle.read(options.bundle), options.role, options.repeats, options.batch)
    total = sum(times.values())
    print("| operator | ms per call | share |\n|---|---|---|")
    for operator, seconds in sorted(times.items(), key=itemgetter(1), reverse=True):
        print(f"| {operator} | {seconds * 1e3:.2f} | {seconds / total:.1%} |")
    print(f"| all | {total * 1e3:.2f} | |")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,openvino"):
        main()
