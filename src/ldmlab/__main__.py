"""Entry of `python -m ldmlab <verb>`, the same as the command `ldmlab`."""

from ldmlab.apps.cli.main import main

main()
