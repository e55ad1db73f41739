"""Writes small DICOM files by pydicom."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CT, LITTLE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def written(path: Path, pixels: NDArray[Any], **elements: Any) -> Path:
    """Write an uncompressed image; grey has the shape (F, H, W), colour (F, H, W, 3)."""
    import pydicom

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = LITTLE
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3.4"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    dataset.PatientID = "patient"
    dataset.Rows, dataset.Columns = pixels.shape[1:3]
    if len(pixels) > 1:
        dataset.NumberOfFrames = len(pixels)
    dataset.SamplesPerPixel = 1 if pixels.ndim == 3 else 3
    if pixels.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 3 else "RGB"
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.add_new(0x7FE00010, "OW" if bits > 8 else "OB", pixels.tobytes())
    for name, value in elements.items():
        setattr(dataset, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of elements that are wrong on purpose
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def draw(*shape: int, low: int = -900, high: int = 900) -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(low, high, shape).astype(np.int16)
