"""Makes specimen data sets in the formats of ImageNet."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np

from ldmlab.data.specimens.scenes import Scene, scenes

WNIDS = ("n01440764", "n01443537", "n02123045")
_DEVKIT = "ILSVRC2012_devkit_t12"


def folders(out: Path, count: int, size: int, seed: int) -> None:
    """`train/n01440764/n01440764_0.JPEG`, and `val` alike."""
    train, validation = _split(count, size, seed)
    for name, (_, scene) in _train(train).items():
        _write(out / "train" / name, scene.encoded())
    for name, (wnid, scene) in _validation(validation).items():
        _write(out / "val" / wnid / name, scene.encoded())


def kaggle(out: Path, count: int, size: int, seed: int) -> None:
    """`ILSVRC/Data/CLS-LOC`, its validation images in one folder, `LOC_val_solution.csv`."""
    train, validation = _split(count, size, seed)
    data = out / "ILSVRC" / "Data" / "CLS-LOC"
    for name, (_, scene) in _train(train).items():
        _write(data / "train" / name, scene.encoded())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("ImageId", "PredictionString"))
    for name, (wnid, scene) in _validation(validation).items():
        _write(data / "val" / name, scene.encoded())
        rows.writerow((Path(name).stem, f"{wnid} 85 1 499 272 "))
    (out / "LOC_val_solution.csv").write_text(table.getvalue())


def tars(out: Path, count: int, size: int, seed: int) -> None:
    """The original archives: one of an archive a class, one of validation images, the devkit."""
    train, validation = _split(count, size, seed)
    inner: dict[str, dict[str, bytes]] = {wnid: {} for wnid in WNIDS}
    for name, (wnid, scene) in _train(train).items():
        inner[wnid][Path(name).name] = scene.encoded()
    outer = {f"{wnid}.tar": tar_of(files) for wnid, files in inner.items()}
    (out / "ILSVRC2012_img_train.tar").write_bytes(tar_of(outer))
    images = _validation(validation)
    flat = {name: scene.encoded() for name, (_, scene) in images.items()}
    (out / "ILSVRC2012_img_val.tar").write_bytes(tar_of(flat))
    _devkit(out, [wnid for wnid, _ in images.values()])


def flat(out: Path, count: int, size: int, seed: int) -> None:
    """`train` in class folders, `val` in one folder, and the devkit with its classes."""
    train, validation = _split(count, size, seed)
    for name, (_, scene) in _train(train).items():
        _write(out / "train" / name, scene.encoded())
    images = _validation(validation)
    for name, (_, scene) in images.items():
        _write(out / "val" / name, scene.encoded())
    _devkit(out, [wnid for wnid, _ in images.values()])


def _split(count: int, size: int, seed: int) -> tuple[list[Scene], list[Scene]]:
    held = max(len(WNIDS), count // 4)
    pictures = scenes(count + held, size, seed, wide=True)
    return pictures[:count], pictures[count:]


def _train(pictures: list[Scene]) -> dict[str, tuple[str, Scene]]:
    found = {}
    for k, scene in enumerate(pictures):
        wnid = WNIDS[k % len(WNIDS)]
        found[f"{wnid}/{wnid}_{k}.JPEG"] = wnid, scene
    return found


def _validation(pictures: list[Scene]) -> dict[str, tuple[str, Scene]]:
    return {
        # The classes run backwards: their order in the files must not decide their numbers.
        f"ILSVRC2012_val_{k:08d}.JPEG": (WNIDS[-k % len(WNIDS)], scene)
        for k, scene in enumerate(pictures, 1)
    }


def _devkit(out: Path, wnids: list[str]) -> None:
    """Ground truth by numbers of the devkit's own, and the table of synsets."""
    from scipy.io import savemat  # slow to import

    numbers = {wnid: k for k, wnid in enumerate(reversed(WNIDS), 1)}
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(k, wnid, wnid, 0) for wnid, k in numbers.items()], dtype=kinds)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets[:, None]})
    truth = "".join(f"{numbers[wnid]}\n" for wnid in wnids).encode()
    files = {
        f"{_DEVKIT}/data/meta.mat": meta.getvalue(),
        f"{_DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }
    (out / f"{_DEVKIT}.tar.gz").write_bytes(tar_of(files, "w:gz"))


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar archive of files by name, in order."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
