"""The paper's own figures, which stand beside those of every report: Piano et al. (2024), Tables I to III.

Piano, Basci, Lamberti and Morra, Harnessing Foundation Models for Image Anonymization, IEEE GEM 2024,
DOI 10.1109/GEM61861.2024.10585484. They were measured on a random sample of 1,000 photos of CelebA-HQ, with Realistic
Vision v5.1. The paper also measured DeepPrivacy2 (Hukkelås and Lindseth, 2023) and FALCO (Barattin et al., 2023). Rates
and AUC are shares, 0..1; "ours" is the paper's method.
"""

from collections.abc import Mapping

SOURCE = (
    "Piano et al., Harnessing Foundation Models for Image Anonymization, IEEE GEM 2024, "
    "DOI 10.1109/GEM61861.2024.10585484, Tables I to III"
)
DATA = "another model, Realistic Vision v5.1, and another data set, 1,000 photos of CelebA-HQ"

Row = Mapping[str, float]
# Table I. For every encoder and method: Re-ID at rank 1, 5 and 10, and mAP@50.
_RANKS = ("Re-ID@1", "Re-ID@5", "Re-ID@10", "mAP@50")
_CLIP, _VGGFACE2, _CASIA = "CLIP ViT-B/32", "FaceNet, VGGFace2", "FaceNet, CASIA-WebFace"
REIDENTIFICATION: Mapping[str, Mapping[str, Row]] = {
    encoder: {method: dict(zip(_RANKS, row, strict=True)) for method, row in rows.items()}
    for encoder, rows in {
        _CLIP: {
            "DeepPrivacy2": (0.268, 0.404, 0.469, 0.113),
            "FALCO": (0.101, 0.222, 0.292, 0.054),
            "ours": (0.007, 0.021, 0.037, 0.006),
        },
        _VGGFACE2: {
            "DeepPrivacy2": (0.004, 0.018, 0.028, 0.006),
            "FALCO": (0.002, 0.014, 0.020, 0.003),
            "ours": (0.010, 0.028, 0.037, 0.006),
        },
        _CASIA: {
            "DeepPrivacy2": (0.003, 0.020, 0.036, 0.005),
            "FALCO": (0.005, 0.013, 0.022, 0.003),
            "ours": (0.007, 0.014, 0.029, 0.005),
        },
    }.items()
}
# Table II. AUC, mean squared error and accuracy of what downstream networks read from the anonymized images.
_TASKS = ("inner AUC", "outer AUC", "emotion AUC", "VA MSE", "ethnicity accuracy", "gender accuracy")
UTILITY: Mapping[str, Row] = {
    method: dict(zip(_TASKS, row, strict=True))
    for method, row in {
        "DeepPrivacy2": (0.823, 0.976, 0.664, 0.18, 0.674, 0.925),
        "FALCO": (0.898, 0.944, 0.777, 0.08, 0.654, 0.950),
        "ours": (0.878, 0.954, 0.730, 0.09, 0.928, 0.965),
    }.items()
}
# Table III. Distances; that of images is a mean, and its deviation is beside it.
_DISTANCES = ("FID", "Visual DNA, data set", "Visual DNA, image", "deviation of it")
QUALITY: Mapping[str, Row] = {
    method: dict(zip(_DISTANCES, row, strict=True))
    for method, row in {
        "DeepPrivacy2": (49.4, 5.0, 10.4, 1.3),
        "FALCO": (41.2, 6.3, 15.2, 2.1),
        "ours": (53.3, 7.1, 18.3, 2.1),
    }.items()
}
# `report.json` holds all of it under the key `paper`.
FIGURES = {
    "source": SOURCE,
    "data": DATA,
    "reid": REIDENTIFICATION,
    "utility": UTILITY,
    "quality": QUALITY,
}


def title(method: str) -> str:
    """How a row of the paper is marked in a table."""
    return f"*the paper: {'its own method' if method == 'ours' else method}, CelebA-HQ*"
