"""Fast mode: evaluations of the denoiser that do less, chosen before the loop begins.

Two savings, beside a sampler with fewer evaluations: guidance only between two noise levels (Kynkäänniemi et al.,
2024), where it does its work; and DeepCache (Ma et al., 2023): the deep features of an earlier evaluation in place of
fresh ones, since they change slowly from one noise level to the next.
"""

from dataclasses import dataclass

from ..types import Sampler
from .schedule import Schedule


@dataclass(frozen=True)
class Acceleration:
    """What a level of fast mode saves.

    Attributes:
        sampler: used unless the user names one; None is the bundle's.
        guidance_interval: sigmas between which guidance acts; None is everywhere.
        cache_interval: of so many evaluations in a row, one runs the full UNet, and the others take its deep features.
    """

    sampler: Sampler | None = None
    guidance_interval: tuple[float, float] | None = None
    cache_interval: int = 1

    def guides(self, sigma: float) -> bool:
        """Whether guidance acts at a noise level."""
        return self.guidance_interval is None or self.guidance_interval[0] <= sigma <= self.guidance_interval[1]


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation does.

    Attributes:
        guided: with guidance, or with the positive prompt alone.
        full: the full UNet, or the part of it that takes cached features.
    """

    guided: bool = True
    full: bool = True


FAST_LEVELS = (
    Acceleration(),
    Acceleration(guidance_interval=(0.15, 6.0)),
    Acceleration(guidance_interval=(0.15, 6.0), cache_interval=3),
    Acceleration(sampler="dpmpp_2m_sde", guidance_interval=(0.3, 6.0)),
)


def choose_evaluations(
    schedule: Schedule, acceleration: Acceleration, *, guidance: bool = True
) -> tuple[Evaluation, ...]:
    """What each evaluation of an image does.

    An evaluation with guidance after one without cannot take cached features: there are none of the negative prompt.

    Args:
        schedule: the sampler's tables.
        acceleration: what to save.
        guidance: whether there is a negative prompt at all.
    """
    evaluations: list[Evaluation] = []
    age, both = acceleration.cache_interval, False  # of the cached features, and whether they are of both prompts
    for sigma in schedule.sigmas / schedule.alphas:
        guided = guidance and acceleration.guides(float(sigma))
        full = age >= acceleration.cache_interval or (guided and not both)
        age, both = (1, guided) if full else (age + 1, both)
        evaluations.append(Evaluation(guided, full))
    return tuple(evaluations)
