"""Build the API reference of both packages with pdoc: `python .ci/docs.py FOLDER`.

Both packages import their public names on first use, and pdoc documents what is there. So every
public name is imported first. Any warning of pdoc is an error.
"""

from __future__ import annotations

import pkgutil
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc

# The GPU kernels need Triton, which comes with torch's GPU builds only.
SKIPPED = ("__main__", "recurrence_triton")


def main(folder: Path) -> None:
    """Write one page per module into a folder."""
    warnings.simplefilter("error")
    # pdoc adds the submodules of packages without __all__ by itself.
    warnings.filterwarnings("ignore", "The module specification .* has already been added")
    # What classes inherit from other packages is theirs to document.
    inherited = "(requests|urllib3|http|torch|h5py)"
    warnings.filterwarnings("ignore", f"Error parsing type annotation .* for {inherited}")
    pages = []
    for name in ("metaevents", "baselines"):
        package = import_module(name)
        found = pkgutil.walk_packages(package.__path__, f"{name}.")
        pages += [name, *(m.name for m in found if m.name.rpartition(".")[2] not in SKIPPED)]
    for page in pages:
        module = import_module(page)
        for public in getattr(module, "__all__", ()):
            setattr(module, public, getattr(module, public))
    pdoc.render.configure(docformat="google")
    pdoc.pdoc(*pages, *(f"!.*{name}" for name in SKIPPED), output_directory=folder)
    print(f"{folder}: {len(pages)} modules documented")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
