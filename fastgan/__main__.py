"""`python -m fastgan` is `fastgan`."""

import sys

from fastgan.cli import main

if __name__ == "__main__":
    sys.exit(main())
