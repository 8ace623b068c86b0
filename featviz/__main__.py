"""`python -m featviz`: the command line."""

import sys

from featviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
