import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from anon_runtime import Anonymizer
from anon_runtime.backends.base import load_engine, resolve_device
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.onnxruntime import OrtMemory, session_arguments
from anon_runtime.errors import BackendError


def graph(bundle: Path) -> Path:
    return bundle / "vae_decoder" / "model.onnx"


def test_a_device_that_the_library_was_not_made_for(demo_bundle: Path) -> None:
    for device in ("cuda", "tensorrt"):
        with pytest.raises(BackendError, match=r"no (CUDA|Tensorrt)ExecutionProvider; install `anon-engines\[gpu\]`"):
            load_engine("onnxruntime", graph(demo_bundle), device)
    assert load_engine("onnxruntime", graph(demo_bundle), "cpu") is not None


def test_threads_of_a_bundle(demo_bundle: Path) -> None:
    engine: Any = Engines.load(demo_bundle, threads=3)["face_detector"]
    assert engine.session.get_session_options().intra_op_num_threads == 3


def test_devices_that_a_target_does_not_know(demo_bundle: Path) -> None:
    for target, device in (("openvino", "cuda"), ("tensorrt", "cpu")):
        with pytest.raises(BackendError, match=f"engines for {target} run on"):
            load_engine(target, graph(demo_bundle), device)


class GpuLibrary:
    """An onnxruntime-gpu on a machine without a GPU: it lists its GPU providers, and uses the CPU without an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
        self.asked: list[Any] = []
        self.tf32: str | None = None
        self.captures = True
        self.list_providers(monkeypatch)
        real = onnxruntime.InferenceSession

        def session(path: str, providers: list[Any], sess_options: object, **_: object) -> object:
            self.asked, self.tf32 = providers, os.environ.get("NVIDIA_TF32_OVERRIDE")
            if not self.captures and dict(providers)["CUDAExecutionProvider"]["enable_cuda_graph"] == "1":
                raise RuntimeError("This session cannot use the graph capture feature as requested by the user")
            made = real(path, sess_options, providers=["CPUExecutionProvider"])
            if works:
                made.get_providers = lambda: [name for name, _ in providers]
            return made

        monkeypatch.setattr(onnxruntime, "InferenceSession", session)

    @staticmethod
    def list_providers(monkeypatch: pytest.MonkeyPatch) -> None:
        everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)
        monkeypatch.setattr(os, "environ", dict(os.environ))  # because loading an engine may set a variable


@pytest.mark.parametrize("device", [None, "cuda", "tensorrt"])
def test_a_silent_fallback_is_an_error(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, device: str | None) -> None:
    GpuLibrary(monkeypatch, works=False)
    with pytest.raises(BackendError, match=r"fell back to CPUExecutionProvider.*nvidia-smi.*`device` cpu"):
        load_engine("onnxruntime", graph(demo_bundle), device)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_start_is_an_error(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], device: str
) -> None:
    """Without our check, onnxruntime would print on standard output, among the lines of --json, and use the CPU."""
    GpuLibrary.list_providers(monkeypatch)
    start = onnxruntime.InferenceSession._create_inference_session  # noqa: SLF001 - its own fallback calls this

    def start_on_cpu(session: Any, providers: list[Any] | None, *rest: Any) -> None:
        if "CPUExecutionProvider" not in str(providers and providers[0]):
            session._fallback_providers = ["CPUExecutionProvider"]  # noqa: SLF001 - its constructor sets this
            raise RuntimeError("libnvinfer.so.10: cannot open shared object file")
        start(session, providers, *rest)

    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", start_on_cpu)
    missing = {"cuda": "CUDA and cuDNN", "tensorrt": "CUDA, cuDNN and TensorRT"}[device]
    with pytest.raises(BackendError, match=f"libnvinfer.*nvidia-smi.*{missing} are installed.*`device` cpu"):
        load_engine("onnxruntime", graph(demo_bundle), device)
    assert capfd.readouterr().out == ""


def test_the_device_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"onnxruntime cannot be imported.*anon-engines\[cpu\]"):
        resolve_device("onnxruntime", None)


@pytest.mark.parametrize(("device", "first"), [("cuda", "CUDA"), ("tensorrt", "Tensorrt"), (None, "CUDA")])
def test_providers_of_a_device(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, first: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library = GpuLibrary(monkeypatch, works=True)
    load_engine("onnxruntime", graph(demo_bundle), device)
    names = [name for name, _ in library.asked]
    assert names[0] == f"{first}ExecutionProvider"
    assert names[-1] == "CPUExecutionProvider"
    options = dict(library.asked)
    assert options["CUDAExecutionProvider"]["use_tf32"] == "0"


def test_engines_of_tensorrt_are_kept_by_our_key(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The key that onnxruntime itself computes does not depend on the weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there" / "yet"))
    library = GpuLibrary(monkeypatch, works=True)
    keys = set()
    for role in ("unet", "vae_decoder"):
        anonymizer = Anonymizer.load(demo_bundle, device="tensorrt")
        anonymizer.engines[role]
        options = dict(library.asked)["TensorrtExecutionProvider"]
        assert options["trt_engine_cache_enable"] == "1"
        assert options["trt_engine_cache_prefix"] == anonymizer.engines.bundle.spec(role).key
        # onnxruntime itself creates only the last folder of the path.
        folder = Path(options["trt_engine_cache_path"])
        assert folder.is_dir()
        assert folder.is_relative_to(tmp_path)
        keys.add(options["trt_engine_cache_prefix"])
    assert len(keys) == 2
    load_engine("onnxruntime", graph(demo_bundle), "tensorrt")
    assert "trt_engine_cache_enable" not in dict(library.asked)["TensorrtExecutionProvider"], (
        "an engine without a key is not cached"
    )


@pytest.mark.parametrize(
    ("device", "before", "during"),
    [("tensorrt", None, "0"), ("tensorrt", "1", "1"), ("cuda", None, None), ("cpu", None, None)],
)
def test_tf32_is_off_for_tensorrt(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, before: str | None, during: Any
) -> None:
    """TensorRT has no option for TF32: it reads an environment variable, which the user may have set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if before is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", before)
    library = GpuLibrary(monkeypatch, works=True)
    load_engine("onnxruntime", graph(demo_bundle), device)
    assert library.tf32 == during


def test_bound_arrays_give_the_same_numbers(demo_bundle: Path) -> None:
    """Inputs and outputs are bound as on a GPU, but in the memory of the CPU."""
    anonymizer = Anonymizer.load(demo_bundle)
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "sample": rng.standard_normal((2, 4, 16, 16)).astype(np.float32),
        "timestep": np.array(417.25, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 154, 64)).astype(np.float32),
    }
    engine: Any = anonymizer.engines["unet"]
    plain = engine(inputs)["out_sample"]
    np.testing.assert_array_equal(plain, engine._run_copied(inputs)[0])  # noqa: SLF001 - a processor does without
    with pytest.raises(BackendError, match="onnxruntime refused sample"):
        engine(inputs | {"sample": np.zeros((1, 3, 16, 16), np.float32)})
    memory = engine.memory
    buffers = {name: memory.empty(array.shape, array.dtype) for name, array in inputs.items()}
    result = memory.empty(plain.shape, plain.dtype)
    launch = engine.bind(buffers, {"out_sample": result})
    for scale in (1, 2):  # a launch reads what its buffers hold at that time
        for name, array in (inputs | {"sample": inputs["sample"] * scale}).items():
            memory.write(buffers[name], array)
        launch()
        expected = engine(inputs | {"sample": inputs["sample"] * scale})["out_sample"]
        np.testing.assert_array_equal(memory.read(result), expected)
    assert (engine.outputs["out_sample"].dtype, engine.outputs["out_sample"].shape[:2]) == ("float32", ("batch", 4))


def test_buffers_of_a_wrong_size_are_refused(demo_bundle: Path) -> None:
    engine: Any = Anonymizer.load(demo_bundle).engines["unet"]
    shapes = {"sample": (2, 3, 16, 16), "timestep": (), "encoder_hidden_states": (2, 77, 64)}
    inputs = {name: engine.memory.empty(shape, np.float32) for name, shape in shapes.items()}
    launch = engine.bind(inputs, {"out_sample": engine.memory.empty((2, 4, 16, 16), np.float32)})
    with pytest.raises(BackendError, match=r"onnxruntime refused sample float32\[2, 3, 16, 16\]"):
        launch()


def test_few_graphs_are_captured_and_a_failure_is_launched_plainly(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime captures and replays by the number that a run gives it; -1 is for neither."""
    engine: Any = load_engine("onnxruntime", graph(demo_bundle), "cpu")
    numbers, failing = list[str](), {"2"}

    class Session:
        io_binding = engine.session.io_binding

        def run_with_iobinding(self, _binding: Any, options: Any) -> None:
            numbers.append(options.get_run_config_entry("gpu_graph_id"))
            if numbers[-1] in failing:
                raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    monkeypatch.setattr(engine, "session", Session())
    monkeypatch.setattr(engine, "_most_graphs", 2)
    launches = [engine.bind({}, {}) for _ in range(3)]
    for launch in launches * 2:
        launch()
    assert numbers == ["1", "2", "-1", "-1", "1", "-1", "-1"]
    failing.add("-1")
    with pytest.raises(BackendError, match="operation not permitted"):
        launches[1]()


def test_graphs_are_asked_for_only_where_onnxruntime_takes_them(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = GpuLibrary(monkeypatch, works=True)
    engine: Any = load_engine("cuda", graph(demo_bundle))
    assert dict(library.asked)["CUDAExecutionProvider"]["enable_cuda_graph"] == "1"
    assert engine._most_graphs > 0  # noqa: SLF001
    load_engine("onnxruntime", graph(demo_bundle), "cuda")
    assert dict(library.asked)["CUDAExecutionProvider"]["enable_cuda_graph"] == "0"
    library.captures = False
    engine = load_engine("cuda", graph(demo_bundle))
    assert engine._most_graphs == 0  # noqa: SLF001


def test_rows_of_a_buffer_share_its_memory() -> None:
    memory = OrtMemory("cpu")
    buffer = memory.empty((4, 3), np.float16)
    rows = buffer.rows(1, 3)
    assert (rows.shape, rows.address - buffer.address, rows.owner) == ((2, 3), 6, buffer.owner)
    assert buffer.reshape(2, 6).address == buffer.address
    memory.write(buffer, np.arange(12, dtype=np.float16).reshape(4, 3))
    read = memory.read(buffer)
    memory.write(buffer, np.zeros((4, 3), np.float16))
    assert read.sum() == 66, "what was read is a copy"


@pytest.mark.usefixtures("export_packages")
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's account of memory")
def test_weights_are_mapped_from_their_file(demo_bundle: Path, tmp_path: Path) -> None:
    """The weights of a large network stay in the pages of their file, which all processes with the engine share."""
    import onnx

    model = onnx.load(graph(demo_bundle))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=1024)
    os.sync()  # pages that are not on disk yet would count as changed ones
    code = (
        "import sys, numpy as np; from pathlib import Path; from anon_runtime.backends.base import load_engine;"
        "from anon_runtime.backends import base;"
        "base.LARGE = 0; engine = load_engine('onnxruntime', Path(sys.argv[1]));"
        "print(open('/proc/self/smaps').read());"
        "engine({'latent_sample': np.zeros((1, 4, 24, 24), np.float32)}); print(open('/proc/self/smaps').read())"
    )
    text = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    entries = [part for part in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text) if "model.onnx.data" in part]
    kilobytes = {
        key: sum(int(number) for part in entries for number in re.findall(rf"^{key}: +(\d+)", part, re.M))
        for key in ("Size", "Private_Dirty")
    }
    assert kilobytes["Size"] * 1024 >= 2 * (tmp_path / "model.onnx.data").stat().st_size, "before and after the call"
    assert kilobytes["Private_Dirty"] == 0


def test_nothing_is_told_to_anybody(demo_bundle: Path, tmp_path: Path) -> None:
    """onnxruntime's telemetry would write a number that identifies the machine into the cache folder, and send data."""
    program = f"""
from pathlib import Path
from anon_runtime.backends.base import load_engine, resolve_device
from anon_runtime.backends.engines import Engines
resolve_device("onnxruntime", None)
load_engine("onnxruntime", Path({str(demo_bundle / "vae_decoder" / "model.onnx")!r}), "cpu")
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list(tmp_path.rglob("*")) == []


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"onnxruntime cannot load it .*; build the bundle again"):
        load_engine("onnxruntime", tmp_path / "model.onnx")


def test_weights_of_a_large_engine_are_not_copied(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"latent_sample": np.random.default_rng(0).standard_normal((1, 4, 24, 24)).astype(np.float32)}
    small: Any = load_engine("onnxruntime", graph(demo_bundle))
    monkeypatch.setattr("anon_runtime.backends.base.LARGE", 0)
    arguments = session_arguments(graph(demo_bundle))
    assert arguments["disabled_optimizers"] == ["NchwcTransformer"]
    assert arguments["sess_options"].get_session_config_entry("session.disable_prepacking") == "1"
    large: Any = load_engine("onnxruntime", graph(demo_bundle))
    np.testing.assert_allclose(small(inputs)["sample"], large(inputs)["sample"], atol=1e-4)
