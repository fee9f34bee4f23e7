"""Running commands one after another, as a user would, and remembering what each took."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tapeline.cli.app import console, notices
from tapeline.core.errors import TapelineError, UnavailableError

READY_TIMEOUT_S = 60.0
_OUTPUT_SHOWN = 4_000


class StepError(TapelineError):
    """A command of the demo failed; its output says why."""


class Steps:
    """Runs commands, shows each with its time, and keeps a list of them.

    Parameters
    ----------
    environment
        Added to the environment of every command.
    folder
        Where the commands run.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = os.environ | dict(environment)
        self.folder = folder
        self.done: list[tuple[str, float]] = []

    def with_environment(self, more: Mapping[str, str]) -> Steps:
        """The same, with more in the environment; what it runs is remembered here."""
        other = Steps(more, self.folder)
        other.environment = self.environment | dict(more)
        other.done = self.done
        return other

    def tapeline(self, *arguments: str) -> Any:
        """Run a ``tapeline`` command with ``--json`` and parse what it prints."""
        shown = f"tapeline {shlex.join(arguments)}"
        output = self._run(shown, [sys.executable, "-m", "tapeline", *arguments, "--json"], self.folder)
        try:
            return json.loads(output)
        except json.JSONDecodeError:
            raise StepError(f"{shown!r} printed no JSON", remedy=output[-500:]) from None

    def feast(self, *arguments: str, repository: Path) -> None:
        """Run one of Feast's own commands inside a feature repository."""
        feast = Path(sys.executable).with_name("feast")
        self._run(f"feast {shlex.join(arguments)}", [str(feast), *arguments], repository)

    def say(self, text: str) -> None:
        """One line on what the last command did, with its time."""
        console.print(f"  {text} [dim]({self.done[-1][1]:.1f} s)[/]", highlight=False)

    def record(self, shown: str, seconds: float) -> None:
        """Add a step that was not a command."""
        self.done.append((shown, seconds))

    def _run(self, shown: str, command: Sequence[str], folder: Path) -> str:
        console.print(f"[bold cyan]$[/] {shown}", highlight=False, soft_wrap=True)
        begin = time.perf_counter()
        with notices.status("working …"):
            run = subprocess.run(
                command,
                cwd=folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        if run.returncode != 0:
            notices.print((run.stdout + run.stderr)[-_OUTPUT_SHOWN:], markup=False, highlight=False)
            raise StepError(f"{shown!r} failed with exit code {run.returncode}", remedy="Its output stands above")
        self.done.append((shown, time.perf_counter() - begin))
        return run.stdout


class ServerProcess:
    """An inference server started by ``tapeline serve``; use as a context manager, which drains it at the end.

    Parameters
    ----------
    steps
        Whose environment and folder it runs in.
    model
        What to serve.
    log
        File for its output.
    """

    def __init__(self, steps: Steps, model: str, log: Path) -> None:
        self._steps = steps
        self._model = model
        self._log = log
        self.target = ""
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        shown = f"tapeline serve {self._model} --port 0"
        console.print(f"[bold cyan]$[/] {shown} &", highlight=False)
        begin = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tapeline", "serve", self._model, "--port", "0"],
                cwd=self._steps.folder,
                env=self._steps.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.target = self._wait_until_ready(begin)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self.ready_s = time.perf_counter() - begin
        self._steps.record(shown, self.ready_s)
        return self

    def _wait_until_ready(self, begin: float) -> str:
        while time.perf_counter() - begin < READY_TIMEOUT_S:
            found = re.search(r"127\.0\.0\.1:\d+", self._log.read_text())
            if found:
                return found.group()
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise UnavailableError(
            "the inference server did not become ready", where=str(self._log), remedy=self._log.read_text()[-2_000:]
        )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
