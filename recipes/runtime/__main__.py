"""The folder that the image's Python is started with: `python3 /usr/lib/sparkbake COMMAND ...`."""

import sys

from spark.commands import main

sys.exit(main(sys.argv[1:]))
