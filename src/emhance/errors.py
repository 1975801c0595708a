"""Every exception emhance raises on purpose, drawn as one tree.

::

    EmhanceError
    └── UserError             what the user gave cannot be used; the command line exits with code 2
        ├── MapFileError          not an MRC file, truncated, an image stack, complex, no voxel size
        ├── MapContentError       NaN or infinite values, a constant map
        ├── GeometryError         anisotropic or non-orthogonal voxels; two maps that do not match
        ├── MaskError             mask of another box, empty, not binary
        ├── NormalizationError    the noise cannot be used as asked
        ├── OptionError           options that contradict each other or are out of range
        ├── WeightsError          unknown network, weights or card that cannot be loaded
        ├── DeviceError           a GPU that does not exist
        ├── AtomicModelError      coordinates that cannot be read or hold no atoms
        ├── OutputError           the output exists, cannot be written, the disk is full
        └── MissingExtraError     an optional dependency is not installed; the message says which extra to install

Anything else that escapes is emhance's own fault: the command line exits with code 1.
"""


class EmhanceError(Exception):
    """Base of every exception raised on purpose."""


class UserError(EmhanceError):
    """Something the user gave cannot be used: one sentence with what was wrong, the value seen and what to do."""


class MapFileError(UserError):
    """A file that cannot be read as one density map."""


class MapContentError(UserError):
    """A density map whose values cannot be used."""


class GeometryError(UserError):
    """Voxels or cell that emhance does not support, or two maps whose geometry differs."""


class MaskError(UserError):
    """A mask that cannot be used with its map."""


class NormalizationError(UserError):
    """Normalisation that cannot be carried out as asked."""


class OptionError(UserError):
    """Options that contradict each other or are out of range."""


class WeightsError(UserError):
    """An unknown network, or weights that cannot be loaded."""


class DeviceError(UserError):
    """A device that does not exist on this machine."""


class AtomicModelError(UserError):
    """Coordinates that cannot be read, or hold nothing to simulate."""


class OutputError(UserError):
    """An output that cannot be written."""


class MissingExtraError(UserError):
    """An optional dependency is missing; the message names the extra to install."""
