"""Slices of DICOM files and NIfTI volumes, written by their own packages."""

from __future__ import annotations

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ldmlab.core.errors import UserError
from ldmlab.data.images.decode import BrokenFileError
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.values import read_values
from ldmlab.data.sources.image_folder import ImageFolder

STORED = np.arange(20, dtype=np.uint16).reshape(4, 5) * 100


def dicom(stored: np.ndarray = STORED, **attributes: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, generate_uid()
    file.Rows, file.Columns = stored.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PixelRepresentation = 0
    if stored.ndim == 3:
        file.NumberOfFrames = len(stored)
    file.PixelData = stored.tobytes()
    for name, value in attributes.items():
        setattr(file, name, value)
    data = io.BytesIO()
    pydicom.dcmwrite(data, file, enforce_file_format=True)
    return data.getvalue()


def test_dicom_has_the_units_of_its_modality() -> None:
    data = dicom(RescaleSlope=2, RescaleIntercept=-1024)
    found = read_values(data, 1)
    assert found.full is None and np.array_equal(found.array[0], STORED * 2.0 - 1024)
    unit = Pixels(1, "float", value_window=[0, 2048]).decode(data)
    assert float(unit[0, 0, 0]) == -1 and float(unit[0, 2, 2]) == pytest.approx(
        (2400 - 1024) / 1024 if 2400 < 2048 else 1
    )


def test_dicom_without_a_rule_is_refused_and_white_at_0_turned_over() -> None:
    with pytest.raises(BrokenFileError, match=r"data\.value_range"):
        Pixels(1, 16).decode(dicom())
    turned = read_values(dicom(PhotometricInterpretation="MONOCHROME1"), 1)
    assert np.array_equal(turned.array[0], 4095 - STORED.astype(int))


def test_frames_of_dicom_are_channels_where_asked() -> None:
    frames = np.stack([STORED, STORED[::-1]])
    found = read_values(dicom(frames), 2, "channels")
    assert np.array_equal(found.array, frames)
    assert read_values(dicom(frames), 1).pages == 2


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    nibabel = pytest.importorskip("nibabel")
    for k in range(3):
        volume = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) + 1000 * k
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"{k}.nii.gz")
    return tmp_path


def test_volume_is_a_sample_for_each_slice_and_in_one_split(volumes: Path) -> None:
    train, validation = ImageFolder("train", volumes), ImageFolder("validation", volumes)
    assert [len(train), len(validation)] == [12, 6]
    names = [
        {split.name(k).partition("#")[0] for k in range(len(split))}
        for split in (train, validation)
    ]
    assert not names[0] & names[1]
    number = int(Path(validation.name(0)).name[0])
    whole = np.arange(120).reshape(4, 5, 6) + 1000 * number
    for k in range(6):
        found = read_values(validation.read(k).image, 1).array
        assert np.array_equal(found[0], whole[:, :, k].T[::-1])


def test_volumes_refuse_masks_and_damage_is_counted(volumes: Path) -> None:
    (volumes / "masks").mkdir()
    with pytest.raises(UserError, match="save their slices"):
        ImageFolder("train", volumes, masks="masks", num_mask_labels=2)
    (volumes / "masks").rmdir()
    (volumes / "0.nii.gz").write_bytes(b"no volume")
    both = [ImageFolder(split, volumes) for split in ("train", "validation")]  # type: ignore[arg-type]
    assert sorted(map(len, both)) in ([6, 7], [1, 12])
    source = next(s for s in both if any("0.nii" in s.name(k) for k in range(len(s))))
    place = next(k for k in range(len(source)) if "0.nii" in source.name(k))
    with pytest.raises(BrokenFileError):
        source.read(place)


@pytest.mark.parametrize("package", ["pydicom", "nibabel"])
def test_missing_package_names_the_extra(
    package: str, volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, real = dicom(), builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'ldmlab\[medical\]'"):
        read_values(data, 1) if package == "pydicom" else ImageFolder("train", volumes)
