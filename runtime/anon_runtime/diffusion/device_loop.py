"""The sampling loop on a GPU: everything between the token ids and the image stays in the GPU's memory.

Three small engines of the bundle do what numpy does on a processor: ``scale_model_input`` before the first evaluation,
``scheduler_step`` after each evaluation, with guidance in it, and ``postprocess`` at the end. Token ids, initial
latents and noise are copied to the GPU once for a batch, and the images come back once.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.buffers import BoundEngine, Buffer, Launch
from ..errors import UsageError
from ..timing import StageTimer
from ..types import EngineSource, Floats, Pixels
from .acceleration import Evaluation
from .schedule import Schedule

ROLES = ("scale_model_input", "scheduler_step", "postprocess")
# The columns of the table of a run, see `make_table`.
COLUMNS = (
    *("timestep", "input_scale", "sigma", "alpha", "sample_coef", "denoised_coef", "correction_coef"),
    *("correction_scale", "noise_coef", "keeps", "guidance_scale"),
)
# The loops that are kept for the next batch: a full batch and the smaller last one, with prompts of two lengths.
KEPT = 4


def make_table(schedule: Schedule, guidance_scale: float, vae_scaling_factor: float) -> Floats:
    """Return the numbers that the engines of the loop need, in one row for each of the E evaluations and one more.

    Row k holds the numbers of evaluation k; ``keeps`` is 1 if the update's result is the start of the next step, and 0
    at a midpoint. The sample is divided by the next row's ``input_scale``, so that the last row holds the VAE's factor.
    The last step of ``dpmpp_sde``, which is Euler's to sigma = 0, is written as an update to the prediction itself.

    Args:
        schedule: the tables of the sampler.
        guidance_scale: the scale of guidance.
        vae_scaling_factor: the latents are divided by this factor before they are decoded.

    Returns:
        float32 (E + 1, 11), with the columns `COLUMNS`.
    """
    count, two_stages = schedule.evaluations, schedule.sampler == "dpmpp_sde"
    table = np.zeros((count + 1, len(COLUMNS)), np.float32)
    for column, name in enumerate(COLUMNS[:-2]):
        table[:-1, column] = getattr(schedule, f"{name}s")
    if two_stages:
        euler = {"sample_coef": 0, "denoised_coef": 1, "noise_coef": 0}
        table[-2, [COLUMNS.index(name) for name in euler]] = list(euler.values())
    table[:, COLUMNS.index("keeps")] = np.arange(count + 1) % 2 == 1 if two_stages else 1
    table[:, COLUMNS.index("guidance_scale")] = guidance_scale
    table[-1, COLUMNS.index("input_scale")] = vae_scaling_factor
    return table


@dataclass(frozen=True)
class DeviceState:
    """The state of a loop on a device after an evaluation of the denoiser; see `State`.

    Latents are copied from the device when they are asked for, which is possible until the loop goes on.

    Attributes:
        evaluation: the number of evaluations that are done.
    """

    evaluation: int
    _read: Callable[["DeviceState", str], Any]

    @property
    def latents(self) -> Floats:
        """float32 (n, channels, height, width), the current sample."""
        latents: Floats = self._read(self, "x")
        return latents

    @property
    def denoised(self) -> Floats:
        """float32 of the same shape, the current prediction of the final latents."""
        denoised: Floats = self._read(self, "denoised")
        return denoised

    def decode(self) -> tuple[Pixels, int, bool]:
        """Decode the final latents.

        Returns:
            uint8 (n, height, width, 3), RGB; the number of evaluations before the first one that gave NaN or infinity;
            and whether the decoder's output is finite.
        """
        pixels, (finite, decoded) = self._read(self, "pixels"), self._read(self, "checks")
        return pixels, int(finite), bool(decoded)


class DeviceLoop:
    """Buffers for batches of one size, and the engines that are bound to them.

    Args:
        engines: ``text_encoder``, ``unet``, ``vae_decoder``, `ROLES` and, for DeepCache, ``unet_cached``.
        latent_shape: the number of channels, the height and the width of one image's latents.
        count: the number of images of a batch.
        windows: the number of text windows of each prompt.
        evaluations: the number of evaluations.
        caches: whether some evaluations use cached features.
    """

    def __init__(
        self,
        engines: EngineSource,
        latent_shape: tuple[int, int, int],
        count: int,
        windows: int,
        evaluations: int,
        *,
        caches: bool,
    ) -> None:
        roles = ("text_encoder", "unet", "vae_decoder", *ROLES, *["unet_cached"] * caches)
        self._engines: dict[str, Any] = {role: engines[role] for role in roles}
        self._memory = self._engines["unet"].memory
        self._count, self._windows, self._caches = count, windows, caches
        self._launches: dict[tuple[object, ...], Launch] = {}
        self._current: DeviceState | None = None
        self._table: Floats | None = None
        latents = (count, *latent_shape)
        empty, floats = self._memory.empty, np.float32
        self._buffers: dict[str, Buffer] = {
            "sample": empty((2 * count, *latent_shape), floats),
            "timestep": empty((), floats),
            "noise": empty((evaluations, *latents), floats),
            "table": empty((evaluations + 1, len(COLUMNS)), floats),
        }
        # Two of each, since the update reads one while it writes the other.
        state = {"x": (latents, floats), "base": (latents, floats), "denoised": (latents, floats)}
        numbers = {"evaluation": ((1,), np.int64), "finite": ((1,), np.int64)}
        for name, (shape, dtype) in (state | numbers).items():
            self._buffers |= {f"{name} {side}": empty(shape, dtype) for side in (0, 1)}
        # One row for each window of text or image, of the negative prompts first and then of the positive ones.
        self._outputs = {
            "text_encoder": self._allocate("text_encoder", 2 * count * windows),
            "unet": self._allocate("unet", 2 * count),
            "vae_decoder": self._allocate("vae_decoder", count),
            "postprocess": self._allocate("postprocess", count),
        }

    def _allocate(self, role: str, rows: int) -> dict[str, Buffer]:
        """Return buffers for the outputs of an engine, whose first dimension is free."""
        engine: BoundEngine = self._engines[role]
        return {
            name: self._memory.empty(tuple(n if isinstance(n, int) else rows for n in tensor.shape), tensor.dtype)
            for name, tensor in engine.outputs.items()
        }

    def denoise(
        self,
        windows: Sequence[NDArray[np.int64]],
        initial: Callable[[], Floats],
        noise: Callable[[], Floats],
        table: Floats,
        evaluations: Sequence[Evaluation],
        timer: StageTimer,
    ) -> Iterator[DeviceState]:
        """Run the loop and yield its state after each evaluation.

        Args:
            windows: the token ids int64 (windows, 77) of all negative prompts, if there are any, and then of all
                positive ones.
            initial: a function that returns the initial latents, float32 (n, channels, height, width).
            noise: a function that returns the noise, float32 (updates, n, channels, height, width). It is called after
                the first evaluation.
            table: the table of `make_table`.
            evaluations: the work of each evaluation.
            timer: the timer that the stages are added to.
        """
        with timer("text"):
            self._encode(np.concatenate(windows))
        with timer("noise"):
            self._memory.write(self._buffers["x 0"], initial())
        if self._table is None or not np.array_equal(self._table, table):
            self._memory.write(self._buffers["table"], table)
            self._table = table
        self._start()
        for k, evaluation in enumerate(evaluations):
            with timer("unet"):
                self._predict(evaluation)
            if k == 0:
                with timer("noise"):
                    self._write_noise(noise())
            self._update(k % 2, guided=evaluation.guided)
            self._current = DeviceState(k + 1, self._read)
            yield self._current
        self._current = None

    def _encode(self, tokens: NDArray[np.int64]) -> None:
        """Fill the last rows of the embeddings: those of the positive prompts, or all of them."""
        name, rows = f"tokens {len(tokens)}", 2 * self._count * self._windows
        if name not in self._buffers:
            self._buffers[name] = self._memory.empty(tokens.shape, tokens.dtype)
        self._memory.write(self._buffers[name], tokens)
        outputs = {n: buffer.rows(rows - len(tokens), rows) for n, buffer in self._outputs["text_encoder"].items()}
        self._launch(("text", len(tokens)), "text_encoder", {"input_ids": self._buffers[name]}, outputs)

    def _start(self) -> None:
        inputs = {"x": self._buffers["x 0"], "table": self._buffers["table"]}
        names = ("base", "denoised", "evaluation", "finite")
        outputs = {name: self._buffers[name] for name in ("sample", "timestep")}
        outputs |= {name: self._buffers[f"{name} 0"] for name in names}
        self._launch(("start",), "scale_model_input", inputs, outputs)

    def _predict(self, evaluation: Evaluation) -> None:
        """Run the UNet for both prompts, or for the positive ones, whose rows come last."""
        count, whole = self._count, self._outputs["unet"]
        states = self._outputs["text_encoder"]["last_hidden_state"]
        text = states.reshape(2 * count, self._windows * states.shape[1], states.shape[2])
        start, stop = (0 if evaluation.guided else count), 2 * count

        def part(buffer: Buffer) -> Buffer:
            return buffer.rows(start, stop)

        inputs = {
            "sample": part(self._buffers["sample"]),
            "timestep": self._buffers["timestep"],
            "encoder_hidden_states": part(text),
        }
        outputs = {name: part(buffer) for name, buffer in whole.items()}
        role = "unet"
        if not evaluation.full and self._caches:
            role, inputs["deep"] = "unet_cached", outputs.pop("deep")
        self._launch(("unet", role, start), role, inputs, outputs)

    def _write_noise(self, noise: Floats) -> None:
        """Copy the noise to the device; `dpmpp_sde` has one update less than evaluations."""
        buffer = self._buffers["noise"]
        padded = np.zeros(buffer.shape, np.float32)
        padded[: len(noise)] = noise
        self._memory.write(buffer, padded)

    def _update(self, side: int, *, guided: bool) -> None:
        """Guidance, the update of the sample, and the input of the next evaluation."""
        names, count = ("x", "base", "denoised", "evaluation", "finite"), self._count
        predicted = self._outputs["unet"]["out_sample"]
        positive = predicted.rows(count, 2 * count)
        inputs = {f"{name}_in": self._buffers[f"{name} {side}"] for name in names}
        inputs |= {"positive": positive, "negative": predicted.rows(0, count) if guided else positive}
        inputs |= {name: self._buffers[name] for name in ("noise", "table")}
        outputs = {name: self._buffers[f"{name} {1 - side}"] for name in names}
        outputs |= {name: self._buffers[name] for name in ("sample", "timestep")}
        self._launch(("update", side, guided), "scheduler_step", inputs, outputs)

    def _decode(self, side: int) -> None:
        latents = {"latent_sample": self._buffers["sample"].rows(0, self._count)}
        self._launch(("decode",), "vae_decoder", latents, self._outputs["vae_decoder"])
        inputs = {"sample": self._outputs["vae_decoder"]["sample"], "finite": self._buffers[f"finite {side}"]}
        self._launch(("finish", side), "postprocess", inputs, self._outputs["postprocess"])

    def _launch(
        self, key: tuple[object, ...], role: str, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        """Run an engine on buffers, which are bound to it at the first call with this key."""
        if key not in self._launches:
            self._launches[key] = self._engines[role].bind(inputs, outputs)
        self._launches[key]()

    def _read(self, state: DeviceState, name: str) -> Any:
        if state is not self._current:
            raise UsageError("a state of the loop", "the loop has gone on", "read it before the next one")
        side = state.evaluation % 2
        if name == "pixels":
            self._decode(side)
        own = self._outputs["postprocess"] if name in ("pixels", "checks") else self._buffers
        return self._memory.read(own[name] if name in own else own[f"{name} {side}"])


class DeviceLoops:
    """The loops of an engine source. Those that are not in use are kept for the next batch of the same size.

    Args:
        engines: see `DeviceLoop`.
        latent_shape: see `DeviceLoop`.
    """

    def __init__(self, engines: EngineSource, latent_shape: tuple[int, int, int]) -> None:
        self._engines, self._latent_shape = engines, latent_shape
        self._idle: OrderedDict[tuple[int, int, int, bool], DeviceLoop] = OrderedDict()

    @contextmanager
    def borrow(self, count: int, windows: int, evaluations: int, *, caches: bool) -> Iterator[DeviceLoop]:
        """Lend a loop to one caller; see `DeviceLoop` for the arguments."""
        key = (count, windows, evaluations, caches)
        loop = self._idle.pop(key, None)
        if loop is None:
            loop = DeviceLoop(self._engines, self._latent_shape, count, windows, evaluations, caches=caches)
        yield loop
        # A loop whose batch has failed is not kept, since its last launch may be damaged.
        self._idle[key] = loop
        while len(self._idle) > KEPT:
            self._idle.popitem(last=False)
