import torch

from anon_export.demo.networks import FIRST_PAIRS, AttributeNet, FaceNet
from anon_runtime.faces.attributes import CELEBA


def test_each_attribute_is_read_by_one_pair() -> None:
    net = AttributeNet().eval()
    for i, member in enumerate(net.nets):
        assert isinstance(member, FaceNet)
        # The logits of the first pair are 0 and 1, and those of the second pair 2 and 3.
        torch.nn.init.zeros_(member.attributes.weight)
        torch.nn.init.constant_(member.attributes.bias, float(i))
    scores = net(torch.zeros(1, 3, 224, 224))[0]
    for name, score in zip(CELEBA, scores, strict=True):
        said = torch.sigmoid(torch.tensor(0.5 if name in FIRST_PAIRS else 2.5))
        torch.testing.assert_close(score, said if name != "Attractive" else torch.tensor(0.0))
