"""Random weights for the networks of facer and DeepFace, in the files where these packages look for trained ones.

The trained files cannot be downloaded without a network connection. Speed, memory and exactness do not depend on what
the weights have learned.
"""

from pathlib import Path
from typing import Any

import torch

from anon_export import faces
from anon_export.demo.generator import initialise


def write_random_face_weights(trained: Path | None = None) -> None:
    """Write He-initialised weights with a fixed seed; age and race share 13 convolutions, as the trained ones may do.

    Args:
        trained: a folder that may hold a trained detector, ``mobilenet0.25_Final.pth``, which is then used.
    """
    from deepface.models.demography.pytorch import Age, Race
    from facer.face_detection.retinaface import RetinaFace, cfg_mnet
    from facer.farl import farl_classification

    torch.manual_seed(0)
    with faces.cpu_only():
        networks: dict[str, Any] = {
            "detector": RetinaFace(cfg_mnet, phase="test"),
            "attributes": farl_classification(num_classes=40, layers=[11]),
            "age": Age.base_model(),
            "race": Race.base_model(),
        }
    for network in networks.values():
        initialise(network)
    _scale_heads(networks["detector"])
    trunk = {k: v for k, v in networks["age"].state_dict().items() if k.startswith("backbone.conv")}
    networks["race"].load_state_dict(trunk, strict=False)
    for role, network in networks.items():
        weights = faces.WEIGHTS[role]
        weights.folder().mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), weights.folder() / weights.names[0])
    detector = faces.WEIGHTS["detector"]
    if trained is not None and (trained / detector.names[0]).is_file():
        (detector.folder() / detector.names[0]).write_bytes((trained / detector.names[0]).read_bytes())


def _scale_heads(detector: Any) -> None:
    """Scale the heads of a random RetinaFace so that it finds some tens of boxes with different scores.

    Without this, thousands of boxes have the score 1, and the order of the boxes cannot be compared.
    """
    heads = {"ClassHead": 3.0, "BboxHead": 0.5, "LandmarkHead": 0.5}  # standard deviation of each head's outputs
    detector.eval()
    for name, deviation in heads.items():
        for head in getattr(detector, name):
            outputs: list[torch.Tensor] = []
            handle = head.register_forward_hook(lambda _m, _i, output, keep=outputs: keep.append(output))
            with torch.no_grad():
                detector(torch.randn(1, 3, 320, 320) * 60)
                head.conv1x1.weight *= deviation / outputs[0].std()
                head.conv1x1.bias.zero_()
                if name == "ClassHead":
                    head.conv1x1.bias.view(-1, 2)[:] = torch.tensor([1.5, -1.5])
            handle.remove()
