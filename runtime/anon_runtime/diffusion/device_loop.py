"""The sampling loop on a GPU: everything between the token ids and the image stays in the GPU's memory.

Three small engines of the bundle do what numpy does on a processor: ``scale_model_input`` before the first evaluation,
``scheduler_step`` after each evaluation, with guidance in it, and ``postprocess`` at the end. Token ids, initial
latents and noise are copied to the GPU once for a batch, and the images come back once.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..backends.buffers import BoundEngine, Buffer, Launch, Memory, allocate_outputs
from ..errors import UsageError
from ..timing import StageTimer
from ..types import EngineSource, Floats, Pixels
from .acceleration import Evaluation
from .schedule import Schedule
from .text_encoder import WINDOW

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
    _loop: "DeviceLoop"

    @property
    def latents(self) -> Floats:
        """float32 (n, channels, height, width), the current sample."""
        return self._loop.read(self, "x")

    @property
    def denoised(self) -> Floats:
        """float32 of the same shape, the current prediction of the final latents."""
        return self._loop.read(self, "denoised")

    def decode(self) -> tuple[Pixels, int, bool]:
        """Decode the final latents.

        Returns:
            uint8 (n, height, width, 3), RGB; the number of evaluations before the first one that gave NaN or infinity;
            and whether the decoder's output is finite.
        """
        return self._loop.decode(self)


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
        self._engines: dict[str, BoundEngine] = {role: cast(BoundEngine, engines[role]) for role in roles}
        self._memory: Memory = self._engines["unet"].memory
        self._count, self._windows = count, windows
        self._launches: dict[tuple[object, ...], Launch] = {}  # what is bound already, see `_launch`
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
        rows = {"text_encoder": 2 * count * windows, "unet": 2 * count, "vae_decoder": count, "postprocess": count}
        self._outputs = {role: allocate_outputs(self._engines[role], number) for role, number in rows.items()}

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
        tokens = np.concatenate(windows)
        with timer("text"):
            self._memory.write(self._tokens(len(tokens)), tokens)
            self._launch(self._bind_text_encoder, len(tokens))
        with timer("noise"):
            self._memory.write(self._buffers["x 0"], initial())
        if self._table is None or not np.array_equal(self._table, table):
            self._memory.write(self._buffers["table"], table)
            self._table = table
        self._launch(self._bind_start)
        for k, evaluation in enumerate(evaluations):
            with timer("unet"):
                self._launch(self._bind_unet, evaluation.guided, not evaluation.full)
            if k == 0:
                with timer("noise"):
                    self._write_noise(noise())
            self._launch(self._bind_step, evaluation.guided, k % 2)
            self._current = DeviceState(k + 1, self)
            yield self._current
        self._current = None

    def read(self, state: DeviceState, name: str) -> Floats:
        """Return a copy of ``x`` or ``denoised``.

        Raises:
            UsageError: the loop has gone on since the state was yielded.
        """
        self._check_current(state)
        values: Floats = self._memory.read(self._buffers[f"{name} {state.evaluation % 2}"])  # type: ignore[assignment]
        return values

    def decode(self, state: DeviceState) -> tuple[Pixels, int, bool]:
        """See `DeviceState.decode`, and `read` for the errors."""
        self._check_current(state)
        self._launch(self._bind_decoder)
        self._launch(self._bind_postprocess, state.evaluation % 2)
        made = {name: self._memory.read(buffer) for name, buffer in self._outputs["postprocess"].items()}
        pixels: Any = made["pixels"]
        finite, decoded = made["checks"]
        return pixels, int(finite), bool(decoded)

    def _check_current(self, state: DeviceState) -> None:
        if state is not self._current:
            raise UsageError("a state of the loop", "the loop has gone on", "read it before the next one")

    def _launch(self, bind: Callable[..., Launch], *arguments: object) -> None:
        """Run an engine on the buffers that a function binds it to; it is called only once for the same arguments."""
        key = (bind.__name__, *arguments)
        if key not in self._launches:
            self._launches[key] = bind(*arguments)
        self._launches[key]()

    def _tokens(self, count: int) -> Buffer:
        """Return the buffer for this number of windows of text: those of the positive prompts, or all of them."""
        name = f"tokens {count}"
        if name not in self._buffers:
            self._buffers[name] = self._memory.empty((count, WINDOW), np.int64)
        return self._buffers[name]

    def _write_noise(self, noise: Floats) -> None:
        """Copy the noise to the device; `dpmpp_sde` has one update less than evaluations."""
        buffer = self._buffers["noise"]
        padded = np.zeros(buffer.shape, np.float32)
        padded[: len(noise)] = noise
        self._memory.write(buffer, padded)

    def _bind_text_encoder(self, count: int) -> Launch:
        """It fills the last rows of the embeddings: those of the positive prompts, or all of them."""
        rows = 2 * self._count * self._windows
        outputs = {name: buffer.rows(rows - count, rows) for name, buffer in self._outputs["text_encoder"].items()}
        return self._bind("text_encoder", {"input_ids": self._tokens(count)}, outputs)

    def _bind_start(self) -> Launch:
        inputs = {"x": self._buffers["x 0"], "table": self._buffers["table"]}
        names = ("base", "denoised", "evaluation", "finite")
        outputs = {name: self._buffers[name] for name in ("sample", "timestep")}
        return self._bind("scale_model_input", inputs, outputs | {name: self._buffers[f"{name} 0"] for name in names})

    def _bind_unet(self, guided: bool, cached: bool) -> Launch:
        """It works on both prompts, or on the positive ones, whose rows come last."""
        start, stop = (0 if guided else self._count), 2 * self._count
        states = self._outputs["text_encoder"]["last_hidden_state"]
        text = states.reshape(stop, self._windows * states.shape[1], states.shape[2])
        inputs = {
            "sample": self._buffers["sample"].rows(start, stop),
            "timestep": self._buffers["timestep"],
            "encoder_hidden_states": text.rows(start, stop),
        }
        outputs = {name: buffer.rows(start, stop) for name, buffer in self._outputs["unet"].items()}
        if not cached:
            return self._bind("unet", inputs, outputs)
        return self._bind("unet_cached", inputs | {"deep": outputs.pop("deep")}, outputs)

    def _bind_step(self, guided: bool, side: int) -> Launch:
        """Guidance, the update of the sample, and the input of the next evaluation."""
        names, count = ("x", "base", "denoised", "evaluation", "finite"), self._count
        predicted = self._outputs["unet"]["out_sample"]
        positive = predicted.rows(count, 2 * count)
        inputs = {f"{name}_in": self._buffers[f"{name} {side}"] for name in names}
        inputs |= {"positive": positive, "negative": predicted.rows(0, count) if guided else positive}
        inputs |= {name: self._buffers[name] for name in ("noise", "table")}
        outputs = {name: self._buffers[f"{name} {1 - side}"] for name in names}
        return self._bind("scheduler_step", inputs, outputs | {n: self._buffers[n] for n in ("sample", "timestep")})

    def _bind_decoder(self) -> Launch:
        latents = {"latent_sample": self._buffers["sample"].rows(0, self._count)}
        return self._bind("vae_decoder", latents, self._outputs["vae_decoder"])

    def _bind_postprocess(self, side: int) -> Launch:
        inputs = {"sample": self._outputs["vae_decoder"]["sample"], "finite": self._buffers[f"finite {side}"]}
        return self._bind("postprocess", inputs, self._outputs["postprocess"])

    def _bind(self, role: str, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Launch:
        return self._engines[role].bind(inputs, outputs)


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
        _ = self._engines["unet"]  # this raises an error if the engines were closed, which an idle loop does not notice
        key = (count, windows, evaluations, caches)
        loop = self._idle.pop(key, None)
        if loop is None:
            loop = DeviceLoop(self._engines, self._latent_shape, count, windows, evaluations, caches=caches)
        yield loop
        # A loop whose batch has failed is not kept, since its last launch may be damaged.
        self._idle[key] = loop
        while len(self._idle) > KEPT:
            self._idle.popitem(last=False)
