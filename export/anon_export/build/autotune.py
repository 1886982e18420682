"""What this machine does fastest: measured once, when a bundle is built, and kept as its defaults."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from anon_runtime.backends.base import Engine
from anon_runtime.bundle.manifest import Defaults, EngineSpec
from anon_runtime.diffusion.text_encoder import WINDOW

TURNS = 5
BATCHES = (2, 4, 8, 16)
WORTH = 0.95  # a larger batch has to bring an image's time below this share


def autotune(unet: Engine, spec: EngineSpec, latent_shape: Sequence[int]) -> Defaults:
    """How a UNet is best called on this machine.

    Guidance may run as one call of two samples or as two calls of one; images may be generated one by one or together.
    The numbers are the same. A network that takes more than a second is bound by its arithmetic, which all ways have in
    common, and one call reads its weights once: it is not measured, and images are generated one by one.
    """
    width = next(int(tensor.shape[-1]) for tensor in spec.inputs if tensor.name == "encoder_hidden_states")

    def seconds(samples: int, calls: int = 1) -> float:
        inputs = {
            "sample": np.ones((samples, *latent_shape), np.float32),
            "timestep": np.array(500, np.float32),
            "encoder_hidden_states": np.ones((samples, WINDOW, width), np.float32),
        }
        start = time.perf_counter()
        for _ in range(calls):
            unet(inputs)
        return time.perf_counter() - start

    if seconds(1) > 1:
        return Defaults()
    turns = [(seconds(2), seconds(1, calls=2)) for _ in range(TURNS)]
    one_batch = median(one for one, _ in turns) <= median(two for _, two in turns)
    return Defaults(guidance_batch=one_batch, batch_size=best_batch(lambda count: seconds(2 * count)))


def best_batch(seconds: Callable[[int], float]) -> int:
    """The smallest number of images from which on more of them gain nothing worth waiting for.

    Args:
        seconds: of one call for so many images.
    """

    def each(count: int) -> float:
        return median(seconds(count) / count for _ in range(TURNS))

    best, fastest = 1, each(1)
    for count in BATCHES:
        if (now := each(count)) > WORTH * fastest:
            break
        best, fastest = count, now
    return best
