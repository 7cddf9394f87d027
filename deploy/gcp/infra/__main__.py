"""The program of ``pulumi up``: one stack is one environment, and has its name."""

from __future__ import annotations

import pulumi
from settings import read_settings
from stack import declare

pulumi.export("environment", declare(read_settings()))
