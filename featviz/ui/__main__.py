"""`python -m featviz.ui`: serve the page."""

import sys

from featviz.errors import FeatvizError
from featviz.ui.server import main

if __name__ == "__main__":
    try:
        main()
    except FeatvizError as error:
        sys.exit(str(error))
