from pathlib import Path

from Cython.Build import cythonize
from setuptools import setup

import dnncore

# The folder that holds dnncore: needed for editable installs only, harmless for others.
folder = Path(dnncore.__file__).parents[1]
setup(
    name="downstream",
    ext_modules=cythonize("downstream.pyx", include_path=[str(folder)], language_level=3),
)
