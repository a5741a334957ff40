"""``python -m harp.cli``: the command ``harp`` of this very interpreter."""

import sys

from .main import main

sys.exit(main())
