"""`python -m ldmlab <verb>`."""

from ldmlab.apps.cli.main import main

main()
