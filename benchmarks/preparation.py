"""What a speed comparison needs on the disk: a model, this project's bundles of it, and what others make of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.demo.weights import write_demo
from anon_export.graphs import stable_diffusion as graphs
from anon_export.graphs.options import GraphOptions
from anon_export.models.loading import load_model
from anon_export.quantization.quantize import import_nncf
from anon_runtime.backends.openvino import import_openvino

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


def prepare_int8(folder: Path) -> None:
    """Build this project's bundle in int8, unless it is there already.

    The weights may be random, so that the calibration is short: it changes the results, but not the time.
    """
    build(replace(_options(folder, "int8"), target="openvino", precision="int8", calibration_images=1, check_images=1))


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
