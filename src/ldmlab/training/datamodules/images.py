"""Images on disk: CelebA-HQ, ImageNet, landscapes with label maps, and a folder of your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

from ldmlab.core.pixel_values import Bits
from ldmlab.core.records import UNLABELLED
from ldmlab.data.images.dataset import ImageDataset
from ldmlab.data.images.decode import WHITE
from ldmlab.data.images.frame import ResizeMode
from ldmlab.data.images.pixels import Pixels
from ldmlab.data.images.source import ImageSource
from ldmlab.data.images.transform import Crop, FlipCaptions, Transform
from ldmlab.data.images.values import Pages
from ldmlab.data.sources.celebahq import CelebAHQ
from ldmlab.data.sources.image_folder import ImageFolder
from ldmlab.data.sources.imagenet import ImageNet
from ldmlab.training.datamodules.named import Loading, NamedDataModule


def image_splits(
    source: Callable[[str], ImageSource],
    transform: Callable[..., Transform],
    crop: Crop,
    flip: bool,
    max_bad: int,
) -> tuple[ImageDataset, ImageDataset]:
    """Training and validation images: only those of training are cut and mirrored at random.

    Args:
        source: Makes the source of a split, by its name.
        transform: Makes a transform, with `crop` and `flip` or without.
        crop: Of the training images: `center` or `random`.
        flip: Mirror half of the training images.
        max_bad: Broken images to replace by others before training stops.
    """
    return (
        ImageDataset(source("train"), transform(crop=crop, flip=flip), max_bad),
        ImageDataset(source("validation"), transform(), max_bad),
    )


class CelebAHQDataModule(NamedDataModule):
    """CelebA-HQ: 30,000 faces, as npy arrays or images of any size.

    Args:
        root: Folder of the images, at any depth.
        image_size: Pixels a side; height and width for other frames.
        train_list: Official list of names; None for `celebahqtrain.txt` in the root.
        validation_list: Likewise; without lists a seeded sixth is held out.
        flip: Mirror half of the training images.
        max_bad: Broken images to replace by others before training stops.
        **loading: As of `NamedDataModule`.
    """

    def __init__(
        self,
        root: str,
        image_size: int | Sequence[int] = 256,
        train_list: str | None = None,
        validation_list: str | None = None,
        flip: bool = True,
        max_bad: int = 100,
        **loading: Unpack[Loading],
    ) -> None:
        source = partial(
            CelebAHQ, root=root, train_list=train_list, validation_list=validation_list
        )
        splits = image_splits(source, partial(Transform, image_size), "center", flip, max_bad)
        super().__init__(*splits, image_size, **loading)


class ImageNetDataModule(NamedDataModule):
    """ImageNet (ILSVRC 2012): class folders, the original archives, or Kaggle's folder.

    Args:
        root: The folder that the download filled.
        image_size: Pixels a side, of the centre square.
        num_classes: Number of classes; another one for a subset of class folders.
        crop: Of the training images: `center` or `random`.
        flip: Mirror half of the training images.
        max_bad: Broken images to replace by others before training stops.
        **loading: As of `NamedDataModule`.
    """

    def __init__(
        self,
        root: str,
        image_size: int | Sequence[int] = 256,
        num_classes: int = 1000,
        crop: Crop = "center",
        flip: bool = True,
        max_bad: int = 100,
        **loading: Unpack[Loading],
    ) -> None:
        source = partial(ImageNet, root=root, num_classes=num_classes)
        splits = image_splits(source, partial(Transform, image_size), crop, flip, max_bad)
        super().__init__(*splits, image_size, **loading)


class LandscapesDataModule(NamedDataModule):
    """Landscapes with label maps: random crops of images and of their masks.

    Args:
        root: Folder that holds the two folders below.
        images: Where the images are.
        masks: Where the label-map pngs are, at the same relative paths.
        image_size: Pixels a side, of a crop of
        resized: images whose shorter side has so many pixels.
        num_mask_labels: Number of labels; 182 are those of COCO-Stuff.
        first_label: Value of label 0 in the files.
        unlabelled: Value of pixels without a label.
        validation_list: File of relative paths; None for folders named validation, else a share.
        validation_share: Of the images, seeded.
        flip: Mirror half of the training images, masks alike.
        max_bad: Broken images to replace by others before training stops.
        **loading: As of `NamedDataModule`.
    """

    def __init__(
        self,
        root: str,
        images: str = "images",
        masks: str = "masks",
        image_size: int | Sequence[int] = 256,
        resized: int = 384,
        num_mask_labels: int = 182,
        first_label: int = 0,
        unlabelled: int = UNLABELLED,
        validation_list: str | None = None,
        validation_share: float = 0.1,
        flip: bool = True,
        max_bad: int = 100,
        **loading: Unpack[Loading],
    ) -> None:
        source = partial(
            ImageFolder,
            root=root,
            images=images,
            masks=masks,
            num_mask_labels=num_mask_labels,
            first_label=first_label,
            unlabelled=unlabelled,
            validation_list=validation_list,
            validation_share=validation_share,
        )
        transform = partial(Transform, image_size, resized)
        splits = image_splits(source, transform, "random", flip, max_bad)
        super().__init__(*splits, image_size, num_mask_labels=num_mask_labels, **loading)


class ImageFolderDataModule(NamedDataModule):
    """Images of your own: a folder, with class folders, captions or masks where there are any.

    Args:
        root: Folder of the images, at any depth.
        images: Subfolder of the root that holds them; None for the root.
        class_folders: Whether each folder below is a class.
        captions: `txt` (a file beside each image), or a csv or jsonl file in the root.
        masks: Subfolder of label-map pngs, at the images' relative paths.
        image_size: Pixels a side; height and width for other frames.
        resized: Shorter side before the crop; None for `image_size`.
        resize_mode: Images of other proportions: `crop`, `pad` or `squash`.
        channels: Of the images, 1 to 16.
        bits: How samples are written: 8, 16 or `float`.
        value_range: The values that become -1 and 1; None for 0 and the type's largest.
        value_window: Centre and width of those values, instead.
        value_percentile: Two percentiles of the training images' values, instead.
        pages: Of TIFF and DICOM files: `first`, or `channels` for a page each.
        num_classes: Number of classes that must be there; None for any.
        num_mask_labels: Number of labels of the masks.
        first_label: Value of label 0 in the masks.
        unlabelled: Value of pixels without a label.
        vocabulary: vocab.txt, tokenizer folder or Hugging Face name; None for the captions' own.
        vocabulary_size: Tokens of the captions at most; None for 30,522.
        validation_list: File of relative paths; None for folders named validation, else a share.
        validation_share: Of the images, seeded.
        crop: Of the training images: `center` or `random`.
        flip: Mirror half of the training images, masks alike.
        flip_captions: Captions that say left or right: `keep` (no flip) or `swap`.
        background: Red, green and blue behind transparent pixels, 0 to 255.
        max_bad: Broken images to replace by others before training stops.
        **loading: As of `NamedDataModule`.
    """

    def __init__(
        self,
        root: str,
        images: str | None = None,
        class_folders: bool = False,
        captions: str | None = None,
        masks: str | None = None,
        image_size: int | Sequence[int] = 256,
        resized: int | None = None,
        resize_mode: ResizeMode = "crop",
        channels: int = 3,
        bits: Bits = 8,
        value_range: Sequence[float] | None = None,
        value_window: Sequence[float] | None = None,
        value_percentile: Sequence[float] | None = None,
        pages: Pages = "first",
        num_classes: int | None = None,
        num_mask_labels: int | None = None,
        first_label: int = 0,
        unlabelled: int = UNLABELLED,
        vocabulary: str | None = None,
        vocabulary_size: int | None = None,
        validation_list: str | None = None,
        validation_share: float = 0.1,
        crop: Crop = "center",
        flip: bool = True,
        flip_captions: FlipCaptions = "keep",
        background: Sequence[int] = WHITE,
        max_bad: int = 100,
        **loading: Unpack[Loading],
    ) -> None:
        source = partial(
            ImageFolder,
            root=root,
            images=images,
            masks=masks,
            class_folders=class_folders,
            captions=captions,
            num_classes=num_classes,
            num_mask_labels=num_mask_labels,
            first_label=first_label,
            unlabelled=unlabelled,
            validation_list=validation_list,
            validation_share=validation_share,
        )
        transform = partial(
            Transform,
            image_size,
            resized,
            flip_captions=flip_captions,
            background=background,
            resize_mode=resize_mode,
            pixels=Pixels(channels, bits, value_range, value_window, value_percentile, pages),
        )
        super().__init__(
            *image_splits(source, transform, crop, flip, max_bad),
            image_size,
            channels=channels,
            num_mask_labels=num_mask_labels,
            vocabulary=vocabulary,
            vocabulary_size=vocabulary_size,
            **loading,
        )
