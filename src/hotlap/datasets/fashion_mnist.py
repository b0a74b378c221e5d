"""Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey (Xiao, Rasul, Vollgraf 2017)."""

from __future__ import annotations

from pathlib import Path

from hotlap.datasets.download import HttpSource
from hotlap.datasets.idx import IdxFile, IdxFiles
from hotlap.datasets.registries import AptSource, LocalSource
from hotlap.datasets.spec import NamedSet

_FILES = IdxFiles(
    {
        "x_train": IdxFile(
            "train-images-idx3-ubyte",
            47_040_016,
            md5="f4a8712d7a061bf5bd6d2ca38dc4d50a",
            gz_md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        "y_train": IdxFile(
            "train-labels-idx1-ubyte",
            60_008,
            md5="9018921c3c673c538a1fc5bad174d6f9",
            gz_md5="25c81989df183df01b3e8a0aad5dffbe",
        ),
        "x_test": IdxFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            md5="8181f5470baa50b63fa0f6fddb340f0a",
            gz_md5="bef4ecab320f06d8554ea6380940ec79",
        ),
        "y_test": IdxFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            md5="15d484375f8d13e6eb1aabb0c3f46965",
            gz_md5="bb300cfdad3c16e7a12a480ee83cd310",
        ),
    }
)
_FOLDER = "usr/share/datasets/fashion-mnist/"  # of Debian's package dataset-fashion-mnist
_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",  # a website bucket has no HTTPS; the MD5s are known
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
)

DATASET = NamedSet(
    name="fashion-mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    shapes={"x_train": (60_000, 1, 28, 28), "y_train": (60_000,), "x_test": (10_000, 1, 28, 28), "y_test": (10_000,)},
    sha256={
        "x_train": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "y_train": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "x_test": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "y_test": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
    sources=(
        # First, because files that are already on this disk cost nobody anything.
        LocalSource(Path("/") / _FOLDER, _FILES.members(suffix=".gz"), _FILES.decode),
        *(HttpSource(mirror, _FILES.remote(), _FILES.decode_paths) for mirror in _MIRRORS),
        AptSource("dataset-fashion-mnist", _FILES.members(_FOLDER, ".gz"), _FILES.decode),
    ),
    order=20,
)
