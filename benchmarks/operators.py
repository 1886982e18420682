"""Where an engine's time goes: seconds by type of operator.

    python -m benchmarks.operators engines/demo unet [--repeats 5] [--batch 2]

Runs an engine of a bundle on the inputs that it is verified with, under its own library's profiler.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anon_export.build.verify import CHECK
from anon_runtime.bundle.bundle import Bundle

Arrays = dict[str, NDArray[np.generic]]


def onnxruntime_times(path: Path, inputs: Arrays, repeats: int) -> Counter[str]:
    """Seconds a call by operator, as onnxruntime's profiler has them; with the session options of the runtime."""
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
    # The first call allocates memory: of each operator's calls, the first of each round is left out.
    calls: dict[str, list[tuple[str, float]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            calls.setdefault(event["name"], []).append((event["args"]["op_name"], event["dur"] / 1e6))
    times: Counter[str] = Counter()
    for rounds in calls.values():
        for operator, seconds in rounds[len(rounds) // (repeats + 1) :]:
            times[operator] += seconds / repeats
    return times


def openvino_times(path: Path, inputs: Arrays, repeats: int) -> Counter[str]:
    """Seconds a call by operator, as OpenVINO's performance counters have them."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    times: Counter[str] = Counter()
    for turn in range(repeats + 1):
        request.infer({name: np.asarray(array) for name, array in inputs.items()})
        for entry in request.get_profiling_info() if turn else ():
            times[entry.node_type] += entry.real_time.total_seconds() / repeats
    return times


PROFILERS = {"onnxruntime": onnxruntime_times, "openvino": openvino_times}


def profile(bundle: Bundle, role: str, repeats: int, batch: int) -> Counter[str]:
    """Seconds a call by type of operator, of one engine of a bundle.

    Raises:
        SystemExit: there is no profiler for its target.
    """
    target, path = bundle.manifest.target, bundle.engine_path(role)
    if target not in PROFILERS:
        raise SystemExit(f"{target} has a profiler of its own: nsys or trtexec --dumpProfile")
    with np.load(path.with_name(CHECK), allow_pickle=False) as kept:
        inputs = {name.removeprefix("input "): kept[name] for name in kept.files if name.startswith("input ")}
    widened = {name: np.repeat(array, batch, axis=0) if array.ndim else array for name, array in inputs.items()}
    return PROFILERS[target](path, widened, repeats)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("role", help="such as unet")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="times the inputs that the bundle carries")
    options = parser.parse_args()
    times = profile(Bundle.read(options.bundle), options.role, options.repeats, options.batch)
    print("| operator | ms a call | share |\n|---|---|---|")
    for operator, seconds in times.most_common():
        print(f"| {operator} | {seconds * 1e3:.2f} | {seconds / times.total():.1%} |")
    print(f"| all | {times.total() * 1e3:.2f} | |")


if __name__ == "__main__":
    main()
