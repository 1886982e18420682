"""Autotuning: how this machine runs a UNet fastest, measured once per build and kept as the bundle's defaults."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from anon_runtime.bundle.manifest import Defaults, EngineSpec
from anon_runtime.diffusion.text_encoder import WINDOW
from anon_runtime.types import Engine

TURNS = 5
BATCHES = (2, 4, 8, 16)
MAX_SHARE = 0.95  # a larger batch has to reduce the time per image to this share


def autotune(unet: Engine, spec: EngineSpec, latent_shape: Sequence[int]) -> Defaults:
    """Measure how a UNet is called fastest on this machine.

    Guidance can run as one call with two samples or as two calls with one, and images can be generated one by one or
    in batches. The results are the same. A network that takes more than a second per call is limited by its
    arithmetic, which is the same for all of these: it is not measured, and images are generated one by one.

    Args:
        unet, spec: the engine and its entry in the manifest.
        latent_shape: channels, height and width of an image's latents.
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
    """The smallest batch beyond which larger ones save too little time per image.

    Args:
        seconds: the duration of one call for a number of images.
    """

    def per_image(count: int) -> float:
        return median(seconds(count) / count for _ in range(TURNS))

    best, fastest = 1, per_image(1)
    for count in BATCHES:
        if (now := per_image(count)) > MAX_SHARE * fastest:
            break
        best, fastest = count, now
    return best
