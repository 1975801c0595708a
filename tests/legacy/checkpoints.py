"""Write small checkpoints the way Keras 2 did, without Keras."""

import json

import h5py
import numpy as np

BOX = 8


def layer(class_name, name, inputs, **config):
    nodes = [[[source, 0, 0, {}] for source in inputs]] if inputs else []
    return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}


def box_input(box=BOX, channels=1, name="input_1"):
    return layer("InputLayer", name, [], batch_input_shape=[None, box, box, box, channels], dtype="float32")


def convolution(name, source, filters, size=1, **config):
    options = {"strides": [1, 1, 1], "padding": "same", "data_format": "channels_last", "activation": "linear", "use_bias": True}
    return layer("Conv3D", name, [source], filters=filters, kernel_size=[size] * 3, **{**options, **config})


def convolution_weights(rng, channels, filters, size=1):
    kernel = rng.normal(size=(size, size, size, channels, filters)) / np.sqrt(channels * size**3)
    return {"kernel": kernel.astype(np.float32), "bias": rng.normal(size=filters).astype(np.float32)}


def write_checkpoint(path, layers, weights, *, output=None, version="2.2.4", code=None, tile=None, stride=None, kind="Model"):
    graph = {
        "class_name": kind,
        "config": {
            "name": "model_1",
            "layers": layers,
            "input_layers": [[layers[0]["name"], 0, 0]],
            "output_layers": [[output or layers[-1]["name"], 0, 0]],
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(graph).encode()
        file.attrs["keras_version"] = version.encode()
        root = file.create_group("model_weights")
        for entry in layers:
            group = root.create_group(entry["name"])
            arrays = weights.get(entry["name"], {})
            group.attrs["weight_names"] = [f"{entry['name']}/{key}:0".encode() for key in arrays]
            for key, array in arrays.items():
                group.create_dataset(f"{entry['name']}/{key}:0", data=array)
        for key, value in {"NNET_INPUT_SIZE": tile, "NNET_INPUT_STRIDE": stride}.items():
            if value is not None:
                file.create_dataset(f"configParams/{key}", data=[value])
        for key, source in (code or {}).items():
            file.create_dataset(f"code/{key}", data=[source.encode()], dtype=h5py.string_dtype())
    return path


def small_network(path, *, box=16, version="2.2.4", normalization="inputNormalization_3", seed=0, stride=None):
    """A network with keras-contrib's GroupNormalization, a strided and a transposed convolution and a skip."""
    rng = np.random.default_rng(seed)
    layers = [
        box_input(box),
        convolution("a", "input_1", 4, 3),
        layer("GroupNormalization", "gn", ["a"], groups=2, axis=-1, epsilon=1e-5, center=True, scale=True),
        layer("PReLU", "act", ["gn"], shared_axes=[1, 2, 3]),
        convolution("down", "act", 8, 3, strides=[2, 2, 2], activation="relu"),
        layer("Dropout", "drop", ["down"], rate=0.3),
        layer(
            "Conv3DTranspose",
            "up",
            ["drop"],
            filters=4,
            kernel_size=[3, 3, 3],
            strides=[2, 2, 2],
            padding="same",
            data_format="channels_last",
            activation="linear",
            use_bias=True,
        ),
        layer("Concatenate", "cat", ["up", "act"], axis=-1),
        convolution("out", "cat", 1),
    ]
    transposed = rng.normal(size=(3, 3, 3, 4, 8)).astype(np.float32) / 10
    weights = {
        "a": convolution_weights(rng, 1, 4, 3),
        "gn": {"gamma": rng.uniform(0.5, 1.5, 4).astype(np.float32), "beta": rng.normal(size=4).astype(np.float32)},
        "act": {"alpha": rng.uniform(0, 0.5, (1, 1, 1, 4)).astype(np.float32)},
        "down": convolution_weights(rng, 4, 8, 3),
        "up": {"kernel": transposed, "bias": rng.normal(size=4).astype(np.float32)},
        "out": convolution_weights(rng, 8, 1),
    }
    code = {
        "normFun": f"from deepEMhancer.utils.normalization import {normalization}\nnormFun = {normalization}\n",
        "custom_objects": "class GroupNormalization:\n    pass\ncustom_objects = {'GroupNormalization': GroupNormalization}\n",
    }
    return write_checkpoint(path, layers, weights, version=version, code=code, tile=box, stride=stride or box // 4)
