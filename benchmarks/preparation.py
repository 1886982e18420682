"""What a speed comparison needs on the disk: a model, this project's bundles of it, and what others make of it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.demo.weights import write_demo
from anon_export.graphs import stable_diffusion as graphs
from anon_export.graphs.options import GraphOptions
from anon_export.models.loading import load_model
from anon_export.quantization.bundle import calibrate_once, put_unet, with_precision
from anon_export.quantization.quantize import import_nncf
from anon_runtime.backends.openvino import import_openvino
from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import FileRecord, sha256_all
from anon_runtime.bundle.manifest import MANIFEST, Manifest

from .contenders import Sizes
from .full_size import write_model


def prepare(folder: Path, *, full_size: bool) -> Sizes:
    """Write the model and build this project's bundle of it, unless they are there already."""
    model = folder / "model"
    if not (model / "unet" / "diffusion_pytorch_model.safetensors").exists():
        (write_model if full_size else write_demo)(model)
    bundle = build(_options(folder, "ours"))
    width = json.loads((model / "unet" / "config.json").read_text())["cross_attention_dim"]
    return Sizes(bundle.manifest.generator.latent_shape, width)


def prepare_openvino(folder: Path) -> None:
    """Build this project's bundle for OpenVINO, and those of it in int8, unless they are there already.

    The weights may be random. The int8 UNet is therefore calibrated with one call, and its damage, which would take an
    hour at full size, is not measured: neither changes the time of a call.
    """
    exact, engines = build(replace(_options(folder, "openvino"), target="openvino")), folder / "engines"

    def quantize(bundle: Bundle) -> Manifest:
        put_unet(bundle, calibrate_once(bundle.engine_path("unet")))
        return with_precision(bundle.manifest, "int8")

    _derive(exact.path, engines / "int8", quantize)
    if multiplies_bf16():
        _derive(engines / "int8", engines / "int8-bf16", lambda bundle: with_precision(bundle.manifest, "int8-bf16"))


def _derive(source: Path, target: Path, change: Callable[[Bundle], Manifest]) -> None:
    """Copy a bundle and change the copy, unless it is there already."""
    if target.exists():
        return
    scratch = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    manifest = change(Bundle.read(scratch))
    hashed = sha256_all([scratch / name for name in manifest.files])
    files = {name: FileRecord(hashed[path], path.stat().st_size) for name in manifest.files if (path := scratch / name)}
    (scratch / MANIFEST).write_text(replace(manifest, files=files).to_json())
    scratch.rename(target)


def _options(folder: Path, name: str) -> BuildOptions:
    return BuildOptions(str(folder / "model"), name, folder / "engines", "none", deepcache=True)


def prepare_plain(folder: Path, sizes: Sizes) -> None:
    """Write a copy of the bundle with plain graphs, unless it is there already; see `PLAIN`."""
    plain = folder / "engines" / "plain"
    if plain.exists():
        return
    scratch = plain.with_name("plain.unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder / "engines" / "ours", scratch)
    pipeline = load_model(folder / "model")
    for part, network, export in (
        ("unet", pipeline.unet, graphs.export_unet),
        ("vae_decoder", pipeline.vae, graphs.export_vae_decoder),
    ):
        for old in (scratch / part).glob("model.onnx*"):
            old.unlink()
        export(network, scratch / part / "model.onnx", sizes.latents, GraphOptions())
    scratch.rename(plain)


def prepare_nncf(folder: Path, sizes: Sizes) -> None:
    """Quantize the plain UNet with NNCF as its documentation does, unless it is there already."""
    path = folder / "engines" / "plain" / "unet" / "nncf.xml"
    if path.exists():
        return
    openvino, nncf = import_openvino(), import_nncf()
    quantized = nncf.quantize(
        openvino.Core().read_model(path.with_name("model.onnx")),
        nncf.Dataset([sizes.inputs("unet")]),
        subset_size=1,
        model_type=nncf.ModelType.TRANSFORMER,
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)
