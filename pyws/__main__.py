"""``python -m pyws``: the pyws command where the script is not on the path, and under torchrun."""

import sys

from pyws.cli import main

if __name__ == "__main__":
    sys.exit(main())
