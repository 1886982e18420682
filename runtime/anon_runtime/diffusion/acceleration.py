"""Bounded mode: evaluations of the denoiser that do less, planned before the loop begins.

Two savings, beside a sampler with fewer evaluations: guidance only between two noise levels (Kynkäänniemi et al.,
2024), where it does its work; and the deep features of an earlier evaluation in place of fresh ones (DeepCache, Ma et
al., 2023), since they change slowly from one noise level to the next.
"""

from dataclasses import dataclass

from .schedule import Schedule


@dataclass(frozen=True)
class Economy:
    """What a level of ``--fast`` saves.

    Attributes:
        sampler: used unless the user names one; None is the bundle's.
        guided: sigmas between which guidance acts; None is everywhere.
        period: of so many evaluations in a row, one runs the whole UNet.
    """

    sampler: str | None = None
    guided: tuple[float, float] | None = None
    period: int = 1


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation does: with guidance or with the positive prompt alone; the whole UNet or its shallow part."""

    guided: bool = True
    whole: bool = True


LEVELS = (
    Economy(),
    Economy(guided=(0.15, 6.0)),
    Economy(guided=(0.15, 6.0), period=3),
    Economy(sampler="dpmpp_2m_sde", guided=(0.3, 6.0)),
)


def plan_evaluations(schedule: Schedule, economy: Economy, *, guidance: bool = True) -> tuple[Evaluation, ...]:
    """What each evaluation of a picture does.

    An evaluation with guidance after one without cannot reuse features: there are none of the negative prompt.

    Args:
        schedule: the sampler's tables.
        economy: what to save.
        guidance: whether there is a negative prompt at all.
    """
    plan: list[Evaluation] = []
    since, kept = economy.period, False  # evaluations since the last whole one, and whether that one was guided
    for sigma in schedule.sigmas / schedule.alphas:
        guided = guidance and (economy.guided is None or bool(economy.guided[0] <= sigma <= economy.guided[1]))
        whole = since >= economy.period or (guided and not kept)
        since, kept = (1, guided) if whole else (since + 1, kept)
        plan.append(Evaluation(guided, whole))
    return tuple(plan)
