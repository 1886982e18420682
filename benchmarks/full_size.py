"""Time and memory of a build at full size: Stable Diffusion 1.5's architecture with random weights.

Measures wall-clock seconds and peak resident memory of three processes: the build of all components with its
verification, a second build, which finds everything unchanged, and the loading of the engines.

    python -m benchmarks.full_size --folder /tmp/full            # minutes, 9 GB of disk
    python -m benchmarks.full_size --small                       # the demo's model, to try the script
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from anon_runtime.bundle.bundle import Bundle

from .command_line import one_line_errors

RunName = Literal["build", "second build", "load"]
# Goals in seconds and, for the build, in GB of peak memory.
GOALS: dict[RunName, tuple[float, float | None]] = {
    "build": (360.0, 12.0),
    "second build": (15.0, None),
    "load": (10.0, None),
}
LOAD = """
import sys
from anon_runtime import Anonymizer
anonymizer = Anonymizer.load(sys.argv[1])
for role in anonymizer.engines.bundle.manifest.engines:
    anonymizer.engines[role]
"""


@dataclass(frozen=True)
class Run:
    """One process that was measured.

    Attributes:
        name: of the process.
        seconds: from its start to its end.
        peak: most resident memory, in GB.
        stages: seconds and peak memory by stage of the build.
    """

    name: RunName
    seconds: float
    peak: float
    stages: dict[str, tuple[float, float]]


def write_model(folder: Path) -> None:
    """Write a model of Stable Diffusion 1.5's sizes with He-initialised fp32 weights, in diffusers' layout."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from anon_export.demo.generator import initialise
    from anon_export.models import single_file

    torch.manual_seed(0)
    single_file.write_configs(folder)
    for part, kind in {"unet": UNet2DConditionModel, "vae": AutoencoderKL}.items():
        net = kind.from_config(kind.load_config(folder / part))
        initialise(net)
        net.save_pretrained(folder / part)
        del net
    text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    initialise(text)
    text.save_pretrained(folder / "text_encoder")


def measure(name: RunName, command: Sequence[str]) -> Run:
    """Run a command and measure its memory; each line of `anon-export` on standard error begins a stage.

    Raises:
        SystemExit: the command failed; the message is its output.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stage, begun = "start", 0.0
    stages: dict[str, float] = {}
    peaks = {"start": 0.0}
    lines: list[str] = []
    watcher = threading.Thread(target=_watch, args=(process, peaks), daemon=True)
    watcher.start()
    for line in process.stderr or ():
        lines.append(line)
        if not line.startswith("anon-export: "):
            continue
        now = time.perf_counter() - start
        stages[stage] = now - begun
        stage, begun = line.split(": ")[1].strip(), now
        peaks[stage] = 0.0
    process.wait()
    watcher.join()
    seconds = time.perf_counter() - start
    stages[stage] = seconds - begun
    if process.returncode:
        sys.exit("".join(lines))
    return Run(name, seconds, max(peaks.values()), {name: (stages[name], peaks[name]) for name in stages})


def _watch(process: subprocess.Popen[str], peaks: dict[str, float]) -> None:
    """Record the largest resident size of the latest stage, in GB, until the process ends."""
    path = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            resident = next(line for line in path.read_text().splitlines() if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            return
        stage = next(reversed(peaks))
        peaks[stage] = max(peaks[stage], int(resident.split()[1]) / 1e6)
        time.sleep(0.05)


def run(folder: Path, *, small: bool, target: str = "onnxruntime") -> tuple[list[Run], Bundle]:
    """Write the model and measure the three processes.

    Args:
        folder: for the model, which is kept for the next run, and for a new bundle.
        small: use the demo's model.
        target: of the build; see `anon-export build --target`.

    Returns:
        The three processes, and the bundle.
    """
    model = folder / "model"
    if not (model / "unet" / "diffusion_pytorch_model.safetensors").exists():
        if small:
            from anon_export.demo.weights import write_demo

            write_demo(model)
        else:
            write_model(model)
    output = Path(tempfile.mkdtemp(dir=folder, prefix="engines-"))
    main = [sys.executable, "-c", "import sys; from anon_export.cli import main; main(sys.argv[1:])"]
    options = ["--name", "full", "--output", str(output), "--faces", "none", "--target", target]
    build = [*main, "build", str(model), *options]
    runs = [measure("build", build), measure("second build", build)]
    runs.append(measure("load", [sys.executable, "-c", LOAD, str(output / "full")]))
    return runs, Bundle.read(output / "full")


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(tempfile.gettempdir()) / "anon-engines-full-size"
    parser.add_argument(
        "--folder", type=Path, default=folder, help="folder for models and bundles; default: %(default)s"
    )
    parser.add_argument("--small", action="store_true", help="use the demo's model")
    parser.add_argument("--target", default="onnxruntime", help="target of the build; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    runs, bundle = run(arguments.folder, small=arguments.small, target=arguments.target)
    verification = bundle.manifest.verification
    if arguments.json:
        verified = asdict(verification) if verification else None
        print(json.dumps({"runs": [asdict(measured) for measured in runs], "verification": verified}))
        return
    print("| what | seconds | peak memory | goal |\n|---|---|---|---|")
    for measured in runs:
        seconds, peak = GOALS[measured.name]
        goal = f"{seconds:.0f} s" + (f", {peak:.0f} GB" if peak else "")
        print(f"| {measured.name} | {measured.seconds:.1f} | {measured.peak:.2f} GB | {goal} |")
        if measured.name == "build":
            for stage, (own, memory) in measured.stages.items():
                print(f"| - {stage} | {own:.1f} | {memory:.2f} GB | |")
    if verification is not None:
        for role, error in verification.engines.items():
            print(f"| {role}: error relative to PyTorch's largest value | {error.relative:.1e} | | 1e-04 |")
        print(f"| an image: PSNR relative to diffusers | {verification.image_psnr:.1f} dB | | 60 dB |")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,export"):
        main()
