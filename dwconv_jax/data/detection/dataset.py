"""Object detection: a configured data set as iterators of NumPy batches."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from dwconv_jax.data.dataset import Batch, Dataset
from dwconv_jax.data.detection.config import CHANNELS, DetectionConfig
from dwconv_jax.data.detection.geometry import (
    Array,
    Views,
    evaluation_views,
    largest_training_size,
    plan_epoch,
    plan_evaluation,
    smallest_canvas,
    transform_boxes,
    visible_pixels,
)
from dwconv_jax.data.detection.info import BITS, DetectionInfo
from dwconv_jax.data.detection.masks import Json
from dwconv_jax.data.detection.preprocess import (
    evaluation_entry,
    onto_canvas,
    resize,
)
from dwconv_jax.data.detection.sources import DetectionSplit, open_detection
from dwconv_jax.data.image.content import admit
from dwconv_jax.data.image.decode import decode, open_image
from dwconv_jax.data.stream import Example, Source, Split, local_batch_size, own_share
from dwconv_jax.errors import UserError


def load_detection(config: DetectionConfig | ConfigDict) -> "DetectionDataset":
    """Opens a data set; mistakes in the configuration, files or annotations show here.

    A tfds data set that needs no download is prepared on the spot; others must be prepared already.

    Args:
      config: the fields of `DetectionConfig`.

    Raises:
      UserError: a field of `config` is missing or illegal, or an annotation cannot be used; the
        message names it.
      FileNotFoundError: files are missing; the message names them, or says how to get them.
    """
    config = DetectionConfig.from_config(config)
    dataset = DetectionDataset(config, *open_detection(config))
    dataset.check_objects()
    return dataset


class DetectionDataset(DetectionInfo, Dataset):
    """Images with boxes, classes and masks of objects.

    A training batch is {
      'image': float32 `[b, H, W, 3]`, normalized and padded with zeros to one of
        `config.canvases`;
      'size': int32 `[b, 2]`, height and width of the image without padding;
      'boxes': float32 `[b, N, 4]`, x1, y1, x2, y2 in pixels, where N is `config.max_objects`;
      'classes': int32 `[b, N]`, -1 for padding;
      'masks': uint8 `[b, N, H, W / 8]`, eight pixels a byte as packed by `np.packbits`
    }. Images 2i and 2i + 1 have the same orientation, like those that mmdet puts on one GPU.

    Attributes:
      categories: names of the classes by their ids in the annotations, in the order of the labels.
    """

    def __init__(
        self, config: DetectionConfig, train: DetectionSplit, evaluation: DetectionSplit
    ) -> None:
        self.categories = train.annotations.categories
        class_names = tuple(self.categories.values())
        super().__init__(config, Source(train, evaluation, class_names, CHANNELS))
        self._train = train.annotations
        self._eval = evaluation.annotations
        self._eval_views = evaluation_views(self._eval.sizes, config)

    def check_objects(self) -> None:
        """Raises a UserError if a split has no objects, or if its objects or images do not fit."""
        config = self._config
        counts = self._train.num_objects()
        if not counts.any():
            raise UserError(f"config.dataset.train_split={config.train_split!r} has no objects")
        if not any(self._eval.annotations):
            raise UserError(f"config.dataset.eval_split={config.eval_split!r} has no objects")
        if counts.max() > config.max_objects:
            raise UserError(
                f"config.dataset.max_objects={config.max_objects}: image "
                f"{self._train.file_names[counts.argmax()]!r} has {counts.max()} objects, the most "
                f"of train_split={config.train_split!r}; set it to {counts.max()} or more"
            )
        smallest_canvas(largest_training_size(self._train.sizes, config), config.canvases)
        smallest_canvas(self._eval_views.size, config.canvases)

    def eval_batches(
        self, batch_size: int, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Iterates once over all images of the evaluation split.

        A batch holds images of one canvas, padded with images whose mask is 0. Each process gets
        the same number of batches, of the same shapes.

        Args:
          batch_size: global, over all processes.
          process_index: which share of each batch to return.
          process_count: how many processes share a batch.

        Returns:
          An iterator of {'image': float32 `[b, H, W, 3]`, resized, normalized and padded to a
          canvas; 'size': int32 `[b, 2]`, height and width without padding; 'scale': float32
          `[b, 2]`, `size` over the original size; 'original_size': int32 `[b, 2]`; 'image_id':
          int32 `[b]`, as in `eval_annotations`; 'mask': float32 `[b]`, 0 for padding}.

        Raises:
          UserError: as for `train_batches`.
        """
        share = local_batch_size(batch_size, process_index, process_count)
        split = self._source.eval
        index, canvas, mask = plan_evaluation(self._eval_views, self._config, batch_size)
        plan = {
            "index": index,
            "size": self._eval_views.size[index],
            "canvas": canvas,
            "mask": mask,
        }
        own = own_share(
            tf.data.Dataset.from_tensor_slices(plan), batch_size, process_index, process_count
        )

        def load(example: Example) -> Example:
            image = self._decode(split, example, self._eval.sizes)
            entry = evaluation_entry(image, example["size"], example["canvas"], self._config)
            return {**entry, "image_id": example["index"], "mask": example["mask"]}

        def batches_from(step: int) -> tf.data.Dataset:
            entries = own.skip(step * share).map(load, tf.data.AUTOTUNE, deterministic=True)
            return entries.batch(share, drop_remainder=True)

        return self._to_host(
            batches_from,
            split,
            lambda step: own.skip(step * share).take(share),
            needs_all=True,
        )

    def eval_annotations(self) -> Json:
        """The evaluation split as a COCO dictionary; category ids are classes."""
        return self._eval.to_evaluate()

    def _training_stream(
        self, batch_size: int, seed: int, start_step: int, process_index: int, process_count: int
    ) -> tf.data.Dataset:
        start_epoch, start_step = divmod(start_step, self.steps_per_epoch(batch_size))

        def plan(epoch: Array) -> tuple[Array, ...]:
            rng = np.random.default_rng([seed, int(epoch)])
            index, views, canvas = plan_epoch(self._train.sizes, self._config, batch_size, rng)
            return index, views.flip, views.first, views.crop, views.size, canvas

        names = ("index", "flip", "first", "crop", "size", "canvas")
        dtypes = (tf.int32, tf.bool, *[tf.int32] * 4)
        shapes = ([None], [None], [None, 2], [None, 4], [None, 2], [None, 2])

        def epoch_examples(epoch: tf.Tensor) -> tf.data.Dataset:
            columns = tf.numpy_function(plan, [epoch], dtypes)
            columns = [tf.ensure_shape(c, shape) for c, shape in zip(columns, shapes, strict=True)]
            examples = dict(zip(names, columns, strict=True))
            epoch_seed = tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch)
            return tf.data.Dataset.from_tensor_slices(examples).map(lambda e: (epoch_seed, e))

        stream = tf.data.Dataset.counter(start_epoch).flat_map(epoch_examples)
        stream = stream.skip(start_step * batch_size)
        return own_share(stream, batch_size, process_index, process_count)

    def _train_entry(self, split: Split, example: Example, seed: tf.Tensor) -> Example:
        del seed  # the plan has drawn everything
        image = self._decode(split, example, self._train.sizes)
        image = tf.cond(example["flip"], lambda: image[:, ::-1], lambda: image)
        image = resize(image, example["first"])
        top, left, height, width = tf.unstack(example["crop"])
        image = image[top : top + height, left : left + width]
        plan = [example[key] for key in ("index", "flip", "first", "crop", "size", "canvas")]
        objects = tf.numpy_function(self._objects, plan, (tf.float32, tf.int32, tf.uint8))
        boxes, classes, masks = objects
        return {
            "image": onto_canvas(image, example["size"], example["canvas"], self._config),
            "size": example["size"],
            "boxes": boxes,
            "classes": classes,
            "masks": masks,
        }

    def _objects(
        self, index: Array, flip: Array, first: Array, crop: Array, size: Array, canvas: Array
    ) -> tuple[Array, Array, Array]:
        """Boxes, classes and packed masks visible in a view of a training image."""
        objects, view = self._train.objects(int(index)), Views(flip, first, crop, size)
        height, width = canvas
        boxes = np.zeros((self._config.max_objects, 4), np.float32)
        classes = np.full(self._config.max_objects, -1, np.int32)
        masks = np.zeros((self._config.max_objects, height, width // BITS), np.uint8)
        seen, kept = transform_boxes(objects.boxes, np.array(objects.size), view)
        boxes[: len(kept)] = seen
        classes[: len(kept)] = objects.classes[kept]
        rows, cols = visible_pixels(objects.size, view)
        for place, i in enumerate(kept):
            bits = np.packbits(objects.mask(i)[rows][:, cols], axis=-1)
            masks[place, : bits.shape[0], : bits.shape[1]] = bits
        return boxes, classes, masks

    def _decode(self, split: Split, example: Example, sizes: Array) -> tf.Tensor:
        """An image, uint8 `[h, w, 3]`; a TensorFlow error if the annotations give another size."""
        image = decode(admit(split.read(example), self._config.max_pixels), CHANNELS)
        tf.debugging.assert_equal(tf.shape(image)[:2], tf.gather(sizes, example["index"]), "size")
        return image

    def _has_legal_labels(self, batch: Batch) -> bool:
        return True  # checked when the annotations were read

    def _complaint(self, split: Split, example: Example) -> str | None:
        image = open_image(split.read(example), CHANNELS, self._config.max_pixels)
        height, width = image.shape[:2]
        annotations = self._train if split is self._source.train else self._eval
        expected = annotations.sizes[int(example["index"])]
        if (height, width) == tuple(expected):
            return None
        return (
            f"the image is {height} x {width} and the annotations say {expected[0]} x "
            f"{expected[1]} (annotations refer to the upright picture, after its EXIF orientation)"
        )
