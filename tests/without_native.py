"""A plugin of pytest (`-p tests.without_native`): what is in C as well is in Python, as without a compiler."""

import sys

sys.modules["gateway._passing"] = None  # type: ignore[assignment]  # what Python itself takes for "there is none"
