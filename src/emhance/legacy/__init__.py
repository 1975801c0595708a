"""Networks and arithmetic of the reference program, deepEMhancer; nothing inside its files is executed.

In the order in which data flows: `keras_file` reads a `checkpoint`, `keras_graph` builds the torch network from it (with
`keras_builders` and `keras_layers`), `importing` loads and saves such networks, `enhancing` enhances maps with them: by the
reference program's own arithmetic (`reference`) or the corrected way (`tiled`). `download` fetches the published checkpoints.
"""
