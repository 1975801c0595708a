"""Names of volume files."""

import re


def plain_name(name):
    """A file name without the format that Xmipp puts behind it, as in map.mrc:mrc."""
    return re.sub(r":[a-z]\w*$", "", name)
