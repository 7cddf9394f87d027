"""The process that Weights & Biases lives in; ``child`` says how a fit and it talk."""

from __future__ import annotations

import re
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmark.storage import locked_folder
from classmark.tracking.child import Writer, run_writer
from classmark.tracking.wandb import SYNCED, reason, upload_problem

if TYPE_CHECKING:
    import wandb

EXIT_CODES = {"finished": 0, "failed": 1, "stopped": 130}
_FILES = "run"
"""Folder of a run's own files: at the top, W&B writes a ``config.yaml`` of its own."""
_SHORT_DIGEST = 12
# Nothing of the machine is sent but what the configuration holds; the output is not the fit's.
_SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "host": "",
    "program": "classmark",
    "symlink": False,
    "finish_timeout_raises": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    # What is on disk can be uploaded later, whatever becomes of this process.
    "x_transaction_log_flush_interval": 1.0,
}


class WandbWriter(Writer):
    """Gives the messages of a fit to W&B, one run."""

    def __init__(self) -> None:
        self._run: Any = None
        self._about: Mapping[str, Any] = {}
        self._results: dict[str, float] = {}
        self._problem = ""
        self._held = ExitStack()

    def _take_start(self, place: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        import wandb

        self._about = run
        self._held.enter_context(locked_folder(Path(place["staging"])))
        settings = wandb.Settings(finish_timeout=place["patience_s"], **_SETTINGS)
        self._run = wandb.init(
            dir=place["folder"],
            project=place["project"],
            mode=place["mode"] or None,
            id=f"{run['name']}-{uuid.uuid4().hex[:8]}",
            name=run["name"],
            job_type="train",
            tags=[run["kind"]],
            notes=run["command"],
            config=dict(run["config"]),
            settings=settings,
        )
        # Steps of several stages each begin at 1, which W&B's own count does not allow.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        self._use_dataset()

    def _use_dataset(self) -> None:
        """Say which dataset the run used: its manifest, which has the digest of each file."""
        import wandb

        digest, manifest = self._about["dataset_digest"], self._about["manifest"]
        if manifest is None:
            return
        artifact = wandb.Artifact(
            _name(self._about["dataset"] or "dataset"), "dataset", metadata={"digest": digest}
        )
        self._add(artifact, Path(manifest), Path(manifest).name)
        aliases = ["latest", digest[:_SHORT_DIGEST]]
        self._log(artifact, aliases, used=True)

    def _log(self, artifact: wandb.Artifact, aliases: Sequence[str], *, used: bool) -> None:
        """Record an artifact that the run used or made; a failure is kept until the run ends."""
        try:
            # `use_artifact` waits for the server, and does not work without one.
            self._run._log_artifact(
                artifact, aliases=list(aliases), is_user_created=used, use_after_commit=used
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the metrics are worth keeping
            self._problem = self._problem or self.describe(error)

    def _add(self, artifact: wandb.Artifact, path: Path, name: str) -> None:
        """Add a file to an artifact; offline as a copy, since the upload may come much later."""
        policy = "mutable" if self._run.offline else "immutable"
        artifact.add_file(str(path), name=name, policy=policy, skip_cache=True)

    def _take_metrics(self, rows: list[tuple[int, int, dict[str, float]]]) -> None:
        for _, step, values in rows:
            self._run.log({**values, "step": step})
            self._results |= {name: v for name, v in values.items() if name.startswith("test/")}

    def _take_artifact(self, path: str, folder: str) -> None:
        kept = Path(self._run.dir) / (folder or _FILES) / Path(path).name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        self._run.save(str(kept), base_path=self._run.dir, policy="now")

    def _take_figure(self, name: str, path: str) -> None:
        import wandb

        picture = Path(path).read_text(encoding="utf-8")
        self._run.log({f"figures/{name}": wandb.Html(picture, inject=False), "step": 0})

    def _take_model(self, folder: str, names: Sequence[str]) -> None:
        import wandb

        about = self._about
        facts = {"kind": about["kind"], "dataset_digest": about["dataset_digest"]}
        artifact = wandb.Artifact(
            _name(f"{self._run.project}-{about['kind']}"),
            "model",
            metadata={**facts, **self._results},
        )
        for name in names:
            self._add(artifact, Path(folder) / name, name)
        self._log(artifact, ["latest", _name(about["name"])], used=False)

    def _take_finish(self, status: str) -> None:
        if self._run is None:
            return
        run, self._run = self._run, None
        logs, file = Path(run.settings.log_internal).parent, Path(run.settings.sync_file)
        with self._held:
            run.finish(exit_code=EXIT_CODES[status])
        if problem := self._problem or upload_problem(logs):
            raise RuntimeError(f"{problem}; `classmark runs sync` uploads what it has not taken")
        if not run.offline:
            file.with_name(file.name + SYNCED).touch()

    def describe(self, error: Exception) -> str:
        """Return the first line of what W&B says, without the key."""
        return reason(str(error)) or type(error).__name__

    def close(self) -> None:
        """End a run whose fit went away without a word."""
        self._take_finish("stopped")


def _name(text: str) -> str:
    """Return a text as W&B allows it for artifacts and aliases."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII)


if __name__ == "__main__":
    sys.exit(run_writer(WandbWriter()))
