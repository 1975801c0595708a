"""Every layer that can be imported gives what real Keras, or an independent statement in NumPy, gives."""

import itertools

import numpy as np
import pytest
import torch
from checkpoints import box_input, convolution, convolution_weights, layer, write_checkpoint

from emhance.legacy.keras_file import read_keras_file
from emhance.legacy.keras_graph import KerasGraph

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:keras")

CHANNELS = 4


def run_imported(path, x):
    """The imported network on a channels-last batch, as a channels-last batch."""
    module = KerasGraph(read_keras_file(path))
    with torch.inference_mode():
        y = module(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))))
    return np.moveaxis(y.numpy(), 1, -1)


def agree(keras, path, build, box, tolerance=2e-5):
    """Build with Keras around a 1-to-4 channel convolution, save, import, compare on random input."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((box, box, box, 1))
    outputs = build(keras.layers, keras.layers.Conv3D(CHANNELS, 1, name="widen")(inputs))
    model = keras.Model(inputs, outputs)
    # Not the defaults: zeros and ones hide mistakes.
    model.set_weights([w + rng.uniform(0.1, 0.5, w.shape).astype(np.float32) for w in model.get_weights()])
    model.save(path)
    x = rng.normal(size=(2, box, box, box, 1)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x), training=False).cpu().numpy()
    found = run_imported(path, x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


CONVOLUTIONS = [
    {"kernel_size": size, "strides": strides, "padding": padding}
    for size, strides, padding in itertools.product((1, 2, 3, (5, 3, 2)), (1, 2, 3), ("same", "valid"))
]


@pytest.mark.parametrize("box", [7, 8])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions_pad_as_keras_does(keras, tmp_path, options, box):
    agree(keras, tmp_path / "m.h5", lambda k, x: k.Conv3D(3, activation="tanh", **options)(x), box)


LAYERS = {
    "dilated convolution": lambda k, x: k.Conv3D(3, 3, dilation_rate=2, padding="same")(x),
    "grouped convolution": lambda k, x: k.Conv3D(6, 3, groups=2, padding="same", use_bias=False)(x),
    "up-sampling": lambda k, x: k.UpSampling3D((2, 1, 3))(x),
    "max pooling": lambda k, x: k.MaxPooling3D(2)(x),
    "max pooling, same": lambda k, x: k.MaxPooling3D(3, strides=2, padding="same")(x),
    "max pooling, negative values": lambda k, x: k.MaxPooling3D(2, padding="same")(k.ReLU(negative_slope=0.1)(k.ELU()(x))),
    "average pooling": lambda k, x: k.AveragePooling3D((2, 3, 1), strides=2)(x),
    "average pooling, same": lambda k, x: k.AveragePooling3D(2, padding="same")(x),
    "zero padding": lambda k, x: k.ZeroPadding3D(((1, 2), (0, 3), (2, 0)))(x),
    "cropping": lambda k, x: k.Cropping3D(((1, 2), (0, 3), (2, 0)))(x),
    "add": lambda k, x: k.Add()([x, k.Conv3D(CHANNELS, 1)(x), x]),
    "multiply": lambda k, x: k.Multiply()([x, k.Conv3D(CHANNELS, 1)(x)]),
    "average": lambda k, x: k.Average()([x, k.Conv3D(CHANNELS, 1)(x), k.ELU()(x)]),
    "subtract": lambda k, x: k.Subtract()([x, k.Conv3D(CHANNELS, 1)(x)]),
    "maximum": lambda k, x: k.Maximum()([x, k.Conv3D(CHANNELS, 1)(x)]),
    "minimum": lambda k, x: k.Minimum()([x, k.Conv3D(CHANNELS, 1)(x)]),
    "concatenate": lambda k, x: k.Concatenate()([x, k.Conv3D(2, 1)(x)]),
    "concatenate along y": lambda k, x: k.Concatenate(axis=2)([x, k.Conv3D(CHANNELS, 1)(x)]),
    "PReLU": lambda k, x: k.PReLU(shared_axes=[1, 2, 3])(x),
    "PReLU per voxel": lambda k, x: k.PReLU()(x),
    "LeakyReLU": lambda k, x: k.LeakyReLU(negative_slope=0.2)(x),
    "ReLU": lambda k, x: k.ReLU()(x),
    "ReLU with all options": lambda k, x: k.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)(x),
    "ELU": lambda k, x: k.ELU(alpha=0.7)(x),
    "dropouts": lambda k, x: k.SpatialDropout3D(0.5)(k.AlphaDropout(0.3)(k.Dropout(0.5)(x))),
    "Gaussian noise": lambda k, x: k.GaussianNoise(0.3)(k.GaussianDropout(0.3)(x)),
    "batch normalisation": lambda k, x: k.BatchNormalization()(x),
    "batch normalisation without scale": lambda k, x: k.BatchNormalization(scale=False, epsilon=0.1)(x),
    "Keras' own group normalisation": lambda k, x: k.GroupNormalization(groups=2)(x),
    "an activation on a tensor used twice": lambda k, x: k.Add()([k.ReLU()(x), x]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_what_keras_does(keras, tmp_path, name):
    agree(keras, tmp_path / "m.h5", LAYERS[name], 7)


ACTIVATIONS = [
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "linear",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_do_what_keras_does(keras, tmp_path, name):
    agree(keras, tmp_path / "m.h5", lambda k, x: k.Activation(name)(x), 4)


def test_a_layer_called_twice_shares_its_weights(keras, tmp_path):
    def build(k, x):
        shared = k.Conv3D(CHANNELS, 3, padding="same")
        return k.Add()([shared(shared(x)), x])

    agree(keras, tmp_path / "m.h5", build, 6)


def test_hard_sigmoid_of_keras_2_has_its_own_slope(tmp_path):
    rng = np.random.default_rng(0)
    layers = [box_input(4), convolution("a", "input_1", 2), layer("Activation", "b", ["a"], activation="hard_sigmoid")]
    weights = {"a": convolution_weights(rng, 1, 2)}
    x = rng.normal(size=(1, 4, 4, 4, 1)).astype(np.float32)
    before = x @ weights["a"]["kernel"][0, 0, 0] + weights["a"]["bias"]
    found = run_imported(write_checkpoint(tmp_path / "m.h5", layers, weights), x)
    np.testing.assert_allclose(found, np.clip(0.2 * before + 0.5, 0, 1), atol=1e-6)


def transposed_in_numpy(x, kernel, bias, strides, same):
    """Conv3DTranspose stated as TensorFlow does: scatter, then crop as the forward convolution would have padded."""
    n, *box, _ = x.shape
    size, out = kernel.shape[:3], kernel.shape[3]
    full = np.zeros((n, *((b - 1) * s + max(k, s) for b, s, k in zip(box, strides, size, strict=True)), out))
    for z, y, w in np.ndindex(*box):
        for i, j, k in np.ndindex(*size):
            full[:, z * strides[0] + i, y * strides[1] + j, w * strides[2] + k] += x[:, z, y, w] @ kernel[i, j, k].T
    slices = []
    for b, s, k in zip(box, strides, size, strict=True):
        before = max(k - s, 0) // 2 if same else 0
        length = b * s if same else b * s + max(k - s, 0)
        slices.append(slice(before, before + length))
    return full[(slice(None), *slices)] + bias


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 2, 2), (3, 2, 1)], ids=str)
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 3, 5)], ids=str)
def test_transposed_convolutions_crop_as_tensorflow_does(tmp_path, size, strides, padding):
    rng = np.random.default_rng(1)
    layers = [
        box_input(5),
        convolution("a", "input_1", 3),
        layer(
            "Conv3DTranspose",
            "b",
            ["a"],
            filters=2,
            kernel_size=list(size),
            strides=list(strides),
            padding=padding,
            data_format="channels_last",
            activation="linear",
            use_bias=True,
        ),
    ]
    kernel, bias = rng.normal(size=(*size, 2, 3)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    weights = {"a": convolution_weights(rng, 1, 3), "b": {"kernel": kernel, "bias": bias}}
    x = rng.normal(size=(2, 5, 5, 5, 1)).astype(np.float32)
    widened = x @ weights["a"]["kernel"][0, 0, 0] + weights["a"]["bias"]
    found = run_imported(write_checkpoint(tmp_path / "m.h5", layers, weights), x)
    expected = transposed_in_numpy(widened, kernel, bias, strides, padding == "same")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "padding"), [(3, "valid"), (2, "same"), (2, "valid")])
def test_transposed_convolutions_agree_with_keras_where_its_torch_backend_agrees_with_tensorflow(keras, tmp_path, size, padding):
    agree(keras, tmp_path / "m.h5", lambda k, x: k.Conv3DTranspose(3, size, strides=2, padding=padding)(x), 5)


@pytest.mark.parametrize(("box", "channels", "groups"), [(8, 4, 2), (8, 8, 4), (8, 16, 16), (6, 8, 4), (7, 6, 2), (5, 4, 1)])
def test_group_normalisation_of_keras_contrib_groups_memory_not_channels(tmp_path, box, channels, groups):
    rng = np.random.default_rng(2)
    layers = [
        box_input(box),
        convolution("a", "input_1", channels, 3),
        layer("GroupNormalization", "gn", ["a"], groups=groups, axis=-1, epsilon=1e-3, center=True, scale=True),
        layer("Add", "both", ["gn", "a"]),
    ]
    gamma, beta = (rng.normal(size=channels).astype(np.float32) for _ in range(2))
    weights = {"a": convolution_weights(rng, 1, channels, 3), "gn": {"gamma": gamma, "beta": beta}}
    path = write_checkpoint(tmp_path / "m.h5", layers, weights)
    x = rng.normal(size=(2, box, box, box, 1)).astype(np.float32)
    write_checkpoint(tmp_path / "before.h5", layers[:2], weights)
    before = run_imported(tmp_path / "before.h5", x)
    # An independent statement: every number of the flat buffer on its own.
    expected = np.empty_like(before, np.float64)
    width = channels // groups
    for sample, target in zip(before, expected, strict=True):
        runs = sample.astype(np.float64).reshape(groups, -1)
        position = np.arange(runs.shape[1]) % width
        for g, run in enumerate(runs):
            normal = (run - run.mean()) / np.sqrt(run.var() + 1e-3)
            runs[g] = normal * gamma[g * width + position] + beta[g * width + position]
        target[:] = runs.reshape(sample.shape)
    np.testing.assert_allclose(run_imported(path, x), expected + before, atol=2e-5 * np.abs(expected).max())


def test_group_normalisation_holds_for_a_large_mean(tmp_path):
    rng = np.random.default_rng(3)
    layers = [
        box_input(8),
        convolution("a", "input_1", 2),
        layer("GroupNormalization", "gn", ["a"], groups=2, axis=-1, epsilon=1e-5, center=False, scale=True),
    ]
    weights = {
        "a": {"kernel": np.ones((1, 1, 1, 1, 2), np.float32), "bias": np.full(2, 100, np.float32)},
        "gn": {"gamma": np.ones(2, np.float32)},
    }
    x = rng.normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    found = run_imported(write_checkpoint(tmp_path / "m.h5", layers, weights), x)
    assert abs(found[:, :4].mean()) < 1e-3
    assert abs(found[:, :4].std() - 1) < 1e-3


@pytest.mark.parametrize("axis", [None, -1, 2])
def test_instance_normalisation_of_keras_contrib(tmp_path, axis):
    rng = np.random.default_rng(4)
    layers = [
        box_input(6),
        convolution("a", "input_1", 3, 3),
        layer("InstanceNormalization", "in", ["a"], axis=axis, epsilon=1e-2, center=True, scale=True),
    ]
    size = {None: 1, -1: 3, 2: 6}[axis]
    gamma, beta = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    weights = {"a": convolution_weights(rng, 1, 3, 3), "in": {"gamma": gamma, "beta": beta}}
    x = rng.normal(size=(2, 6, 6, 6, 1)).astype(np.float32)
    before = run_imported(write_checkpoint(tmp_path / "before.h5", layers[:2], weights), x)
    axes = {None: (1, 2, 3, 4), -1: (1, 2, 3), 2: (1, 3, 4)}[axis]
    shape = {None: (1,), -1: (3,), 2: (1, 6, 1, 1)}[axis]
    normal = (before - before.mean(axes, keepdims=True)) / (before.std(axes, keepdims=True) + 1e-2)
    expected = normal * gamma.reshape(shape) + beta.reshape(shape)
    np.testing.assert_allclose(run_imported(write_checkpoint(tmp_path / "m.h5", layers, weights), x), expected, atol=1e-5)


def test_channels_first_networks_give_the_same_as_channels_last(tmp_path):
    rng = np.random.default_rng(5)
    weights = {
        "a": convolution_weights(rng, 1, 4, 3),
        "bn": {key: rng.uniform(0.5, 1.5, 4).astype(np.float32) for key in ("gamma", "beta", "moving_mean", "moving_variance")},
        "c": convolution_weights(rng, 4, 2, 3),
    }
    x = rng.normal(size=(1, 8, 8, 8, 1)).astype(np.float32)
    found = []
    for order in ("channels_last", "channels_first"):
        first = order == "channels_first"
        shape = [None, 1, 8, 8, 8] if first else [None, 8, 8, 8, 1]
        layers = [
            layer("InputLayer", "input_1", [], batch_input_shape=shape),
            convolution("a", "input_1", 4, 3, data_format=order),
            layer("BatchNormalization", "bn", ["a"], axis=1 if first else [4], epsilon=1e-3),
            layer("MaxPooling3D", "pool", ["bn"], pool_size=[2, 2, 2], padding="valid", strides=[2, 2, 2], data_format=order),
            layer("UpSampling3D", "up", ["pool"], size=[2, 2, 2], data_format=order),
            layer("Concatenate", "cat", ["up"], axis=1 if first else -1),
            convolution("c", "cat", 2, 3, data_format=order),
        ]
        found.append(run_imported(write_checkpoint(tmp_path / f"{order}.h5", layers, weights), x))
    np.testing.assert_array_equal(found[0], found[1])
