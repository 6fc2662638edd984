"""`digits`: handwritten digits, 1,797 grey images of 8x8 pixels, 10 classes.

The test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998; from scikit-learn.
"""

import numpy as np
import torch

from fastgan.data.images import ImageData


def digits() -> ImageData:
    """images (1797, 1, 8, 8) uint8, labels the digit. Raises ImportError without scikit-learn."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            f'the data set digits comes with scikit-learn, which is missing ({error}): pip install "fastgan[train]"'
        ) from error
    source = load_digits()
    # The source counts the dark pixels in blocks of 4x4: 0..16.
    values = np.rint(source.images * (255 / 16)).astype(np.uint8)
    return ImageData(
        images=torch.from_numpy(values)[:, None],
        labels=torch.from_numpy(source.target).long(),
        classes=tuple(str(name) for name in source.target_names),
        name="digits",
    )
