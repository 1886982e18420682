"""From photo to attributes: this runtime's face engines beside facer and DeepFace, same photos, same machine, one run.

    python -m benchmarks.extraction [--repeats 5] [--json FILE]        # in .venv-facer, of `make test-packages`

Full-size networks with stand-in weights (see `random_face_weights`). Each side runs in a process of its own, taking turns; a
face is put where facer's detector would find one, so that both read the same crop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

BOX, POINTS = (180, 58, 91, 118), [[203, 98], [245, 100], [222, 122], [205, 140], [240, 142]]


def photos(count: int) -> list[Any]:
    """The astronaut, shifted a little for each photo of a batch."""
    from anon_runtime.faces.decoding import read_photo

    photo = read_photo(Path(str(files("skimage"))) / "data" / "astronaut.png")
    return [np.ascontiguousarray(np.roll(photo, k, axis=1)) for k in range(count)]


def prepare_ours(folder: Path) -> Any:
    """A function from photos to attributes, on the face engines in a folder."""
    from anon_runtime.backends.base import load_engine
    from anon_runtime.faces.attributes import read_attributes
    from anon_runtime.faces.detection import DETECTORS, Face, detect

    roles = json.loads((folder / "roles.json").read_text())
    paths = {role: folder / name / "model.onnx" for role, name in roles.items()}
    loaded = {path: load_engine("onnxruntime", path) for path in set(paths.values())}
    engines = {role: loaded[path] for role, path in paths.items()}
    face = Face(tuple(map(float, BOX)), 1.0, np.array(POINTS, np.float32))

    def run(batch: list[Any]) -> None:
        detect(engines["face_detector"], DETECTORS["retinaface"], batch)
        read_attributes(engines, batch, [face] * len(batch))

    return run


def prepare_theirs(_folder: Path) -> Any:
    """The same with facer and DeepFace."""
    import torch
    from deepface import DeepFace

    import facer
    from anon_export import faces as real_faces

    found = {role: str(real_faces.WEIGHTS[role].find()) for role in ("detector", "attributes")}
    with real_faces.cpu_only():
        detector = facer.face_detector("retinaface/mobilenet", "cpu", model_path=found["detector"])
        attributes = facer.face_attr("farl/celeba/224", "cpu", model_path=found["attributes"])
    x, y, w, h = BOX

    def run(batch: list[Any]) -> None:
        images = torch.from_numpy(np.stack(batch).transpose(0, 3, 1, 2).copy())
        points = torch.tensor(POINTS, dtype=torch.float32).expand(len(batch), 5, 2)
        with torch.inference_mode():
            detector(images)
            attributes(images, {"points": points, "image_ids": torch.arange(len(batch))})
        for photo in batch:
            crop = np.ascontiguousarray(photo[y : y + h, x : x + w, ::-1])
            DeepFace.analyze(crop, actions=("age", "race"), detector_backend="skip", silent=True)

    return run


def serve(side: str, folder: Path) -> None:
    """A process that answers each batch size on stdin with seconds and its peak memory (KiB)."""
    run = {"ours": prepare_ours, "theirs": prepare_theirs}[side](folder)
    run(photos(1))
    for line in sys.stdin:
        batch = photos(int(line))
        start = time.perf_counter()
        run(batch)
        seconds = time.perf_counter() - start
        peak = next(row.split()[1] for row in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in row)
        print(f"answer {seconds} {peak}", flush=True)


def ask(process: Any, size: int) -> tuple[float, float]:
    """Seconds and peak megabytes of one batch."""
    process.stdin.write(f"{size}\n")
    process.stdin.flush()
    line = next(line for line in process.stdout if line.startswith("answer"))
    return float(line.split()[1]), float(line.split()[2]) * 1024 / 1e6


def unet_seconds() -> float:
    """One guidance batch of the full-size UNet (random weights, 512 x 512) in PyTorch."""
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    inputs = torch.randn(2, 4, 64, 64), torch.tensor(500.0), torch.randn(2, 77, 768)
    with torch.inference_mode():
        unet(*inputs)
        start = time.perf_counter()
        unet(*inputs)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--serve", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"TORCH_HOME": str(folder), "DEEPFACE_HOME": name, "DEEPFACE_BACKEND_ENGINE": "pytorch"}
        from anon_export.faces import face_components

        from .random_face_weights import write_random_face_weights

        write_random_face_weights()
        specs = [component.export(folder / component.name) for component in face_components()]
        roles = {role: Path(spec.path).parent.name for made in specs for role, spec in made.items()}
        (folder / "faces" / "roles.json").write_text(json.dumps(roles))
        figures = measure(folder / "faces", options.repeats)
    figures["unet_s"] = unet_seconds()
    for side in ("ours", "theirs"):
        f = figures[side]
        print(f"| {side} | {f['one_s'] * 1e3:.0f} ms | {f['eight_s'] / 8 * 1e3:.0f} ms | {f['memory_mb']:.0f} MB |")
    ours, theirs = figures["ours"], figures["theirs"]
    ratios = [theirs[key] / ours[key] for key in ("one_s", "eight_s", "memory_mb")]
    print("| ratio | " + " | ".join(f"{ratio:.1f} x" for ratio in ratios) + " |")
    share = ours["one_s"] / (29 * figures["unet_s"])
    print(f"share of a full-size image (29 x {figures['unet_s']:.1f} s, UNet in PyTorch): {share:.2%}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(folder: Path, repeats: int) -> dict[str, Any]:
    """Medians of both sides, taking turns."""
    command = [sys.executable, "-m", "benchmarks.extraction", "--folder", str(folder), "--serve"]
    pipe = subprocess.PIPE
    sides = {s: subprocess.Popen([*command, s], stdin=pipe, stdout=pipe, text=True) for s in ("ours", "theirs")}
    runs: dict[str, dict[int, list[tuple[float, float]]]] = {side: {1: [], 8: []} for side in sides}
    for _ in range(repeats):
        for size in (1, 8):
            for side, process in sides.items():
                runs[side][size].append(ask(process, size))
    for process in sides.values():
        process.communicate()
    return {
        side: {
            "one_s": statistics.median(s for s, _ in r[1]),
            "eight_s": statistics.median(s for s, _ in r[8]),
            "memory_mb": max(m for _, m in r[8]),
        }
        for side, r in runs.items()
    }


if __name__ == "__main__":
    main()
