"""A checkpoint is read as data: complete, without running anything, or refused with the layer's name."""

import json
import os

import h5py
import numpy as np
import pytest
from checkpoints import box_input, convolution, convolution_weights, layer, small_network, write_checkpoint

from emhance.errors import WeightsError
from emhance.legacy.importing import load_keras
from emhance.legacy.keras_file import name_assigned, read_keras_file


def test_a_checkpoint_says_tile_stride_and_normalisation(tmp_path):
    checkpoint = read_keras_file(small_network(tmp_path / "net.hd5", box=16))
    assert (checkpoint.tile_size, checkpoint.stride, checkpoint.normalization) == (16, 4, "inputNormalization_3")
    assert (checkpoint.name, checkpoint.keras_version) == ("net", "2.2.4")
    assert checkpoint.weights["down"]["kernel"].shape == (3, 3, 3, 4, 8)
    assert len(checkpoint.sha256) == 64


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from a.b import inputNormalization_3\nnormFun = inputNormalization_3", "inputNormalization_3"),
        ("import a\nnormFun= a.b.inputNormalizationWithMask_2", "inputNormalizationWithMask_2"),
        ("def f(x):\n  return x\nnormFun=f", "f"),
        ("normFun = lambda x, mask: inputNormalizationWithMask(x, mask)", "inputNormalizationWithMask"),
        ("def normFun(x):\n  return inputNormalization_3(x)", "inputNormalization_3"),
        ("from a import inputNormalization_3 as normFun", "inputNormalization_3"),
        ("normFun = lambda x: x", None),
        ("this is no python", None),
        ("", None),
    ],
)
def test_the_normalisation_is_known_by_the_name_it_defines(source, name):
    assert name_assigned(source, "normFun") == name


def test_source_in_the_file_is_never_run(tmp_path):
    path, trap = small_network(tmp_path / "net.hd5"), tmp_path / "trap"
    with h5py.File(path, "r+") as file:
        for key in ("normFun", "custom_objects"):
            del file[f"code/{key}"]
            source = f"open({os.fspath(trap)!r}, 'w')\nclass GroupNormalization: pass\nfrom a import b as normFun\n"
            file.create_dataset(f"code/{key}", data=[source.encode()], dtype=h5py.string_dtype())
    assert load_keras(path).normalization == "b"
    assert not trap.exists()


@pytest.mark.parametrize("class_name", ["Lambda", "TFOpLambda", "Dense", "Model", "Conv2D", "Anything"])
def test_an_unknown_layer_is_refused_by_name_and_class(tmp_path, class_name):
    layers = [box_input(), convolution("a", "input_1", 1), layer(class_name, "the_odd_one", ["a"], function="evil")]
    path = write_checkpoint(tmp_path / "m.hd5", layers, {"a": convolution_weights(np.random.default_rng(0), 1, 1)})
    with pytest.raises(WeightsError, match=f"'the_odd_one' of class {class_name} cannot be imported"):
        load_keras(path)


ODD_LAYERS = {
    "a custom activation": layer("Activation", "odd", ["a"], activation="my_function"),
    "a custom activation object": layer("Activation", "odd", ["a"], activation={"class_name": "Mine"}),
    "padding": convolution("odd", "a", 1, padding="causal"),
    "strides": convolution("odd", "a", 1, strides=[0, 1, 1]),
    "weights that are missing": convolution("odd", "a", 1),
    "batch normalisation along z": layer("BatchNormalization", "odd", ["a"], axis=1),
    "trilinear up-sampling": layer("UpSampling3D", "odd", ["a"], size=[2, 2, 2], interpolation="trilinear"),
}


@pytest.mark.parametrize("kind", ODD_LAYERS)
def test_an_odd_option_is_refused_by_name(tmp_path, kind):
    layers = [box_input(), convolution("a", "input_1", 1), ODD_LAYERS[kind]]
    weights = {"a": convolution_weights(np.random.default_rng(0), 1, 1)}
    if kind in ("padding", "strides"):
        weights["odd"] = weights["a"]
    with pytest.raises(WeightsError, match="Layer 'odd' of class"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, weights))


def test_a_layer_called_in_training_mode_is_refused(tmp_path):
    layers = [box_input(), convolution("a", "input_1", 1), layer("Dropout", "mc", ["a"], rate=0.1)]
    layers[-1]["inbound_nodes"][0][0][3] = {"training": True}
    weights = {"a": convolution_weights(np.random.default_rng(0), 1, 1)}
    with pytest.raises(WeightsError, match=r"'mc' of class Dropout.*training=True"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, weights))


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    layers = [box_input(), convolution("a", "input_1", 2, 3), convolution("b", "a", 1, 3)]
    rng = np.random.default_rng(0)
    wrong = {"a": convolution_weights(rng, 1, 2, 5), "b": convolution_weights(rng, 2, 1, 3)}
    with pytest.raises(WeightsError, match="Layer 'a' of class Conv3D"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, wrong))
    wrong = {"a": convolution_weights(rng, 1, 2, 3), "b": convolution_weights(rng, 3, 1, 3)}
    with pytest.raises(WeightsError, match="do not fit together"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, wrong))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    layers = [box_input(), convolution("a", "input_1", 1)]
    weights = {"a": {"kernel": np.full((1, 1, 1, 1, 1), np.nan, np.float32), "bias": np.zeros(1, np.float32)}}
    with pytest.raises(WeightsError, match="not finite"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, weights))


def test_networks_that_do_not_turn_a_box_into_a_box_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    layers = [box_input(), convolution("a", "input_1", 2)]
    with pytest.raises(WeightsError, match="one box of the same size"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, {"a": convolution_weights(rng, 1, 2)}))
    layers = [box_input(channels=2), convolution("a", "input_1", 1)]
    with pytest.raises(WeightsError, match="one channel"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, {"a": convolution_weights(rng, 2, 1)}))
    with pytest.raises(WeightsError, match="functional models"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", layers, {}, kind="Sequential"))


def test_graphs_that_are_broken_are_refused(tmp_path):
    circle = [box_input(), convolution("a", "b", 1), convolution("b", "a", 1)]
    with pytest.raises(WeightsError, match="depends on its own output"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", circle, {}))
    torn = [box_input(), convolution("a", "nowhere", 1)]
    with pytest.raises(WeightsError, match="nowhere"):
        load_keras(write_checkpoint(tmp_path / "m.hd5", torn, {}))


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint at"):
        load_keras(tmp_path / "missing.hd5")
    text = tmp_path / "text.hd5"
    text.write_text("hello")
    with pytest.raises(WeightsError, match="not an HDF5 file"):
        load_keras(text)
    whole = small_network(tmp_path / "net.hd5").read_bytes()
    truncated = tmp_path / "truncated.hd5"
    truncated.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="damaged or truncated"):
        load_keras(truncated)
    only_weights = tmp_path / "weights.hd5"
    with h5py.File(only_weights, "w") as file:
        file["a/kernel"] = np.zeros(3)
    with pytest.raises(WeightsError, match="no whole Keras model"):
        load_keras(only_weights)
    not_json = small_network(tmp_path / "json.hd5")
    with h5py.File(not_json, "r+") as file:
        file.attrs["model_config"] = b"{"
    with pytest.raises(WeightsError, match="not JSON"):
        load_keras(not_json)


@pytest.mark.parametrize("kind", ["soft", "external", "storage"])
def test_links_out_of_the_file_are_refused(tmp_path, kind):
    path = small_network(tmp_path / "net.hd5")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(path, "r+") as file:
        group = file["model_weights/out/out"]
        del group["bias:0"]
        if kind == "soft":
            group["bias:0"] = h5py.SoftLink("/model_weights/a/a/bias:0")
        elif kind == "external":
            group["bias:0"] = h5py.ExternalLink(os.fspath(secret), "/x")
        else:
            group.create_dataset("bias:0", (1,), "f4", external=[(os.fspath(secret), 0, 4)])
    with pytest.raises(WeightsError, match="self-contained"):
        load_keras(path)


def test_weights_stored_as_objects_are_refused(tmp_path):
    path = small_network(tmp_path / "net.hd5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/out/out"]
        del group["bias:0"]
        group.create_dataset("bias:0", data=["text"], dtype=h5py.string_dtype())
    with pytest.raises(WeightsError, match="cannot be imported"):
        load_keras(path)


def test_keras_2_15_graphs_with_a_group_normalisation_of_keras_itself_group_channels(tmp_path):
    path = small_network(tmp_path / "net.hd5", version="2.15.0")
    with h5py.File(path, "r+") as file:
        graph = json.loads(file.attrs["model_config"])
        kinds = [type(module).__name__ for module in load_keras(path).module.layers]
        assert "BufferGroupNormalization" in kinds
        graph["config"]["layers"][2]["module"] = "keras.layers"
        file.attrs["model_config"] = json.dumps(graph).encode()
    kinds = [type(module).__name__ for module in load_keras(path).module.layers]
    assert "ChannelGroupNormalization" in kinds
