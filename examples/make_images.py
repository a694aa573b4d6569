"""Writes scikit-learn's digits as a folder of images, one sub-folder a class: python make_images.py FOLDER"""

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
    folder = Path(sys.argv[1]) / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15.9).astype("uint8")).resize((32, 32)).save(folder / f"{number}.png")
