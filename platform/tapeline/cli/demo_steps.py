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


class BackgroundProcess:
    """A ``tapeline`` command that runs beside the steps; use as a context manager, which ends it.

    Parameters
    ----------
    steps
        Whose environment and folder it runs in.
    words
        The command.
    log
        File for what it reports.
    environment
        Added to that of the steps.
    """

    def __init__(
        self, steps: Steps, words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._steps = steps
        self._shown = f"tapeline {shlex.join(words)}"
        self._words = words
        self._log = log
        self._environment = steps.environment | dict(environment or {})

    def __enter__(self) -> Self:
        console.print(f"[bold cyan]$[/] {self._shown} &", highlight=False)
        self._began_s = time.perf_counter()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tapeline", *self._words],
                cwd=self._steps.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if "--json" in self._words else log,
                stderr=log,
                text=True,
            )
        return self

    def require_alive(self) -> None:
        """Raise if it has ended.

        Raises
        ------
        UnavailableError
            With the end of its log.
        """
        if self._process.poll() is not None:
            raise UnavailableError(
                f"{self._shown!r} has ended", where=str(self._log), remedy=self._log.read_text()[-2_000:]
            )

    def stop(self) -> Any:
        """Ask it to end, and return what it printed, from JSON."""
        self._process.terminate()
        output, _ = self._process.communicate(timeout=120)
        if self._process.returncode:
            raise StepError(f"{self._shown!r} ended with exit code {self._process.returncode}", where=str(self._log))
        return json.loads(output)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ServerProcess(BackgroundProcess):
    """An inference server, ready within the block.

    Parameters
    ----------
    steps, log, environment
        As of :class:`BackgroundProcess`.
    model
        What to serve.
    """

    def __init__(self, steps: Steps, model: str, log: Path, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(steps, ["serve", model, "--port", "0"], log, environment)
        self.target = ""
        self.ready_s = 0.0

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.target = self._wait_until_ready(self._began_s)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self.ready_s = time.perf_counter() - self._began_s
        self._steps.record(self._shown, self.ready_s)
        return self

    def _wait_until_ready(self, begin: float) -> str:
        while time.perf_counter() - begin < READY_TIMEOUT_S:
            found = re.search(r"127\.0\.0\.1:\d+", self._log.read_text())
            if found:
                return found.group()
            self.require_alive()
            time.sleep(0.02)
        raise UnavailableError(
            "the inference server did not become ready", where=str(self._log), remedy=self._log.read_text()[-2_000:]
        )
