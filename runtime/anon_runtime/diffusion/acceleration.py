"""Fast mode: evaluations of the UNet that do less work; which ones they are is decided before the sampling loop begins.

Besides a sampler with fewer evaluations, there are two ways to save work. Guidance is applied only between two noise
levels (Kynkäänniemi et al., 2024), where it has most of its effect. DeepCache (Ma et al., 2023) reuses the deep
features of an earlier evaluation, because they change slowly from one noise level to the next.
"""

from dataclasses import dataclass

from ..types import Sampler
from .schedule import Schedule


@dataclass(frozen=True)
class Acceleration:
    """One level of fast mode.

    Attributes:
        sampler: the sampler to use if the user has chosen none; None means the bundle's default.
        guidance_interval: the lowest and the highest sigma at which guidance is applied; None means at every sigma.
        cache_interval: of this many evaluations in a row, the first runs the full UNet, and the others reuse its deep
            features; 1 means that all evaluations run the full UNet.
    """

    sampler: Sampler | None = None
    guidance_interval: tuple[float, float] | None = None
    cache_interval: int = 1

    def guides(self, sigma: float) -> bool:
        """Return whether guidance is applied at a noise level."""
        return self.guidance_interval is None or self.guidance_interval[0] <= sigma <= self.guidance_interval[1]


@dataclass(frozen=True)
class Evaluation:
    """The work of one evaluation of the UNet.

    Attributes:
        guided: whether it uses guidance, or only the positive prompt.
        full: whether it runs the full UNet, or only the layers that take cached deep features as input.
    """

    guided: bool = True
    full: bool = True


FAST_LEVELS = (
    Acceleration(),
    Acceleration(guidance_interval=(0.15, 6.0)),
    Acceleration(guidance_interval=(0.15, 6.0), cache_interval=3),
    Acceleration(sampler="dpmpp_2m_sde", guidance_interval=(0.15, 6.0), cache_interval=2),
)


def choose_evaluations(
    schedule: Schedule, acceleration: Acceleration, *, guidance: bool = True
) -> tuple[Evaluation, ...]:
    """Return the work of each evaluation for one image.

    An evaluation with guidance that follows one without guidance runs the full UNet, because no features of the
    negative prompt are cached.

    Args:
        schedule: the tables of the sampler.
        acceleration: the level of fast mode.
        guidance: whether guidance is used at all, that is, whether the guidance scale is above 1.
    """
    evaluations: list[Evaluation] = []
    age, both = acceleration.cache_interval, False  # age of the cached features; whether they cover both prompts
    for sigma in schedule.sigmas / schedule.alphas:
        guided = guidance and acceleration.guides(float(sigma))
        full = age >= acceleration.cache_interval or (guided and not both)
        age, both = (1, guided) if full else (age + 1, both)
        evaluations.append(Evaluation(guided, full))
    return tuple(evaluations)
