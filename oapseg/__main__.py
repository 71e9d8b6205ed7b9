"""`python -m oapseg`: the command line where no script of it is installed, as in the images."""

import sys

from oapseg.cli import main

sys.exit(main())
