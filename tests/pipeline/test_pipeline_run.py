"""A run folder: the same seed gives the same weights, and the folder tells where they are from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest_free import write_one_label

from classmark.dataset import load_manifest
from classmark.errors import InvalidDataset, TrainingFailed
from classmark.pipeline.run_folder import WEIGHTS, describe_environment, read_run
from classmark.records import ScoreTable
from classmark.storage import sha256_file

TrainRun = Callable[..., Path]
