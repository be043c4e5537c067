"""Starts the operator: python -m springtide_operator."""

from springtide_operator.handlers import main

raise SystemExit(main())
