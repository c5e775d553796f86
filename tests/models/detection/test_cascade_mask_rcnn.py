"""Cascade Mask R-CNN: sizes, pictures of several sizes, empty pictures, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import dwconv_jax
from dwconv_jax.models import TASK_VARIANTS
from dwconv_jax.tasks.detection.losses import Objects, detection_loss
from tests.models.drawn import drawn
from tests.numerics import assert_close

# Written out rather than read from the table.
EXPECTED = {
    "cascade_mask_rcnn_dwnet_tiny": 81_514_194,
    "cascade_mask_rcnn_dwnet_base": 131_555_890,
    "cascade_mask_rcnn_dynamic_dwnet_tiny": 108_473_202,
    "cascade_mask_rcnn_dynamic_dwnet_base": 218_806_706,
    "cascade_mask_rcnn_i_dynamic_dwnet_tiny": 83_585_730,
    "cascade_mask_rcnn_i_dynamic_dwnet_base": 137_462_386,
    "cascade_mask_rcnn_swin_tiny": 85_629_804,
    "cascade_mask_rcnn_swin_small": 106_947_708,
    "cascade_mask_rcnn_swin_base": 144_977_002,
}
TINY = dict(
    num_classes=3,
    embed_dim=8,
    depths=(1, 1),
    window_size=3,
    pyramid_features=8,
    hidden_features=16,
    settings=dict(
        anchor_scale=4.0,
        finest_scale=12.0,
        train_candidates=30,
        train_proposals=20,
        candidates=30,
        proposals=20,
        anchor_samples=32,
        roi_samples=16,
        score_threshold=0.01,
        max_detections=8,
    ),
)


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters(name):
    model = nnx.eval_shape(lambda: dwconv_jax.create_model(name, rngs=nnx.Rngs(0)))
    num_params = sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert num_params == EXPECTED[name] == TASK_VARIANTS[name].num_params


def test_every_variant_of_a_paper_is_listed():
    listed = {name for name in dwconv_jax.list_models() if name.startswith("cascade_mask_rcnn_")}
    assert {name for name in listed if TASK_VARIANTS[name].num_params} == set(EXPECTED)


@pytest.fixture(scope="module")
def model():
    return drawn(
        lambda: dwconv_jax.create_model(
            "cascade_mask_rcnn_dynamic_dwnet_tiny", **TINY, rngs=nnx.Rngs(0)
        )
    )


def test_a_picture_in_a_batch_gives_what_it_gives_alone(model, rng):
    graph, state = nnx.split(model)

    @jax.jit
    def detect(state, images, size, scale):
        return nnx.merge(graph, state)(images, size, scale)

    size, scale = np.array([[64, 50], [40, 96]]), np.array([[2.0, 2.5], [1.0, 0.5]], np.float32)
    canvas = np.zeros((2, 64, 96, 3), np.float32)
    for image, (height, width) in zip(canvas, size, strict=True):
        image[:height, :width] = rng.standard_normal((height, width, 3))
    together = detect(state, canvas, size, scale)
    assert together.masks.shape == (2, 8, 28, 28)
    alone = detect(state, canvas[:1, :64, :64], size[:1], scale[:1])
    assert int((alone.classes >= 0).sum()) == 8
    np.testing.assert_array_equal(together.classes[:1], alone.classes)
    for actual, expected in zip(together, alone, strict=True):
        assert_close(actual[:1], expected, 1e-4)
    limit = (size / scale)[:, None, ::-1] + 1e-3
    assert bool((together.boxes[..., 2:] <= limit).all() and (together.boxes >= 0).all())


def test_it_can_be_tabulated(model, tabulate):
    table = tabulate(model, jnp.ones((1, 32, 32, 3)), jnp.array([[32, 32]]))
    assert "MaskHead" in table and "masks: float32[1,8,28,28]" in table


def objects(*classes, side=64):
    """Objects of the given classes, of one image each; every box is a quarter of the picture."""
    shape, near, far = (len(classes), len(classes[0])), side // 8, 5 * side // 8
    boxes = np.broadcast_to(np.array([near, near, far, far], np.float32), (*shape, 4))
    pixels = np.zeros((*shape, side, side), bool)
    pixels[:, :, near:far, near:far] = True
    present = np.array(classes).reshape(shape) >= 0
    return Objects(
        jnp.asarray(boxes * present[..., None]),
        jnp.array(classes, jnp.int32),
        jnp.asarray(np.packbits(pixels & present[..., None, None], axis=-1)),
    )


@pytest.fixture(scope="module")
def train(model):
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def compute(params, images, size, objects, key):
        merged = nnx.merge(graph, params, rest, copy=True)
        loss, terms = detection_loss(merged, images, size, objects, nnx.Rngs(key))
        return loss, terms

    images = jax.random.normal(jax.random.key(2), (2, 64, 64, 3))
    return lambda objects, key=0: compute(
        params, images, jnp.array([[64, 64], [64, 64]]), objects, jax.random.key(key)
    )


def finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_pictures_without_objects(train):
    (loss, terms), grads = train(objects([-1, -1], [-1, -1]))
    assert finite((loss, terms, grads))
    assert float(loss) > 0
    of_positives = [name for name in terms if name.endswith(("box_loss", "mask_loss"))]
    assert [float(terms[name]) for name in of_positives] == [0] * 7


def test_objects_give_every_loss(train):
    (loss, terms), grads = train(objects([1, -1], [-1, 2]))
    assert finite((loss, terms, grads))
    losses = {name: float(value) for name, value in terms.items() if name.endswith("loss")}
    assert len(losses) == 11 and min(losses.values()) > 0
    assert float(loss) == pytest.approx(sum(losses.values()), rel=1e-5)
    assert float(jnp.abs(grads["mask_heads"][2]["logits"]["kernel"][...]).max()) > 0


def test_objects_that_have_no_place(train):
    """Without width, outside of the picture, inverted: nothing to learn, and nothing breaks."""
    boxes = [[[8, 8, 40, 40], [20, 20, 20, 50]], [[70, 70, 99, 99], [30, 30, 20, 10]]]
    given = objects([1, 0], [2, 2])._replace(boxes=jnp.array(boxes, jnp.float32))
    assert finite(train(given))


def test_the_place_of_padding_does_not_matter(train):
    first, last = train(objects([1, -1], [2, -1])), train(objects([-1, 1], [-1, 2]))
    # The draws differ by what stands between them, the proposal network's do not.
    assert float(first[0][1]["rpn_box_loss"]) == pytest.approx(float(last[0][1]["rpn_box_loss"]))


def test_the_key_decides(train):
    given = objects([0, 1], [2, -1])
    losses = [float(train(given, key)[0][0]) for key in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.fixture(scope="module")
def step(model):
    """What a step of training computes, and detections; and its arguments for 8 pictures."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def compute(params, images, size, objects):
        def loss_of(params):
            merged = nnx.merge(graph, params, rest, copy=True)
            loss, terms = detection_loss(merged, images, size, objects, nnx.Rngs(0))
            return loss, (terms, nnx.state(merged, nnx.BatchStat))

        trained = jax.value_and_grad(loss_of, has_aux=True)(params)
        return trained, nnx.merge(graph, params, rest, copy=True)(images, size)

    images = jax.random.normal(jax.random.key(2), (8, 32, 32, 3))
    given = objects(*[[1, -1], [2, 0]] * 4, side=32)
    return compute, params, (images, jnp.full((8, 2), 32), given)


def test_a_step_is_traced_on_explicit_axes(step):
    compute, params, batch = step
    mesh = jax.make_mesh((8,), ("data",))
    split = functools.partial(
        jax.ShapeDtypeStruct, sharding=NamedSharding(mesh, PartitionSpec("data"))
    )
    with jax.set_mesh(mesh):
        batch = jax.tree.map(lambda x: split(x.shape, x.dtype), batch)
        ((loss, _), gradients), found = jax.eval_shape(compute, params, *batch)
    assert loss.shape == ()
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
    assert {array.sharding.spec[0] for array in found} == {"data"}


@pytest.mark.slow  # minutes of compilation
@pytest.mark.timeout(1800)
def test_explicit_axes_change_nothing(step):
    compute, params, batch = step

    def on_devices(axis_type):
        mesh = jax.make_mesh((8,), ("data",), axis_types=(axis_type,))
        with jax.set_mesh(mesh):
            split = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
            return jax.device_get(compute(params, *split))

    (trained, _), expected = jax.device_get(compute(params, *batch))
    (actual, gradients), found = on_devices(AxisType.Explicit)
    named = jax.tree.leaves_with_path((actual, found))
    for (path, a), e in zip(named, jax.tree.leaves((trained, expected)), strict=True):
        assert_close(a, e, 1e-4, jax.tree_util.keystr(path))
    # Gradients follow the rounding of the batch's statistics, which differs on one device.
    (_, expected_gradients), _ = on_devices(AxisType.Auto)
    assert_close(flat(gradients), flat(expected_gradients), 1e-4)


def flat(tree):
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(num_classes=0), "num_classes must be an int >= 1, got 0"),
        (dict(settings=dict(anchors=3)), "unknown settings anchors; known: anchor_scale, finest"),
        (dict(pyramid_feature=3), "unknown override 'pyramid_feature'; did you mean 'pyramid_f"),
    ],
)
def test_mistakes_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        dwconv_jax.create_model("cascade_mask_rcnn_dwnet_tiny", **overrides, rngs=nnx.Rngs(0))


def test_wrong_images_are_named(model):
    with pytest.raises(ValueError, match=r"H and W multiples of 32, got shape \(1, 64, 50, 3\)"):
        model.features(jnp.ones((1, 64, 50, 3)), jnp.array([[64, 50]]))
    with pytest.raises(ValueError, match="3 images must be a multiple of images_per_group=2"):
        model.padded_size(jnp.ones((3, 2), jnp.int32), train=True)
