"""``python -m harp.cli``: the command ``harp`` of this very interpreter."""

import sys

from harp.cli.main import main

sys.exit(main())
