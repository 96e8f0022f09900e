"""What the keys of other services look like, wherever they come from."""

import re

#: A key travels in a header: anything but visible ASCII is a mistake of whoever copied it. For ``match``.
KEY = re.compile(r"[!-~]+\Z")
