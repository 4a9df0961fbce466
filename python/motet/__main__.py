"""`python -m motet` is the command `motet`."""

import sys

from motet.cli import main

if __name__ == "__main__":
    sys.exit(main())
