"""Networks whose weights are there already, for perceptual losses and for distances of pictures.

    from fastgan.losses import Perceptual
    from fastgan.pretrained import features
    loss = Perceptual(features("small"))

`small` comes with the package: 172,000 weights that learned from emoji, digits and photographs without labels
(tools/train_features.py). It is what there is where nothing else is, not a substitute for a network of ImageNet:
its distance rises with noise, blur and darkness and it finds turned pictures, but of gray copies it knows fewer than
pixels do.
"""

from fastgan.pretrained.features import NAMES, Features, features

__all__ = ["NAMES", "Features", "features"]
