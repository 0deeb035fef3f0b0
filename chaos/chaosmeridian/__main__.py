"""`python -m chaosmeridian`: see command.py."""

from chaosmeridian.command import main

raise SystemExit(main())
