"""The folder of compiled kernels is private and follows the settings' data folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tapeline.kernels
from tapeline.core.errors import ConfigurationError
from tapeline.kernels import kernel_sources_hash
from tapeline.kernels.cache import private_folder

_PROGRAM = "import tapeline.kernels, numba; print(numba.config.CACHE_DIR)"


def _cache_dir(cwd: Path, **environment: str) -> Path:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=cwd, env={"PATH": os.environ["PATH"], "HOME": str(cwd), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Path(run.stdout.strip())


def test_the_environment_wins_over_the_file_over_the_default(tmp_path: Path) -> None:
    name = Path("kernels") / kernel_sources_hash()[:32]
    assert _cache_dir(tmp_path) == tmp_path / ".tapeline" / name
    (tmp_path / "tapeline.toml").write_text('home = "from_file"\n')
    assert _cache_dir(tmp_path) == tmp_path / "from_file" / name
    found = _cache_dir(tmp_path, TAPELINE_HOME=str(tmp_path / "from_environment"))
    assert found == tmp_path / "from_environment" / name
    assert found.stat().st_mode & 0o077 == 0
    assert found.parent.stat().st_mode & 0o077 == 0


def test_an_edit_in_any_file_of_any_kernel_changes_the_folder(tmp_path: Path) -> None:
    package = tmp_path / "tapeline"
    shutil.copytree(Path(tapeline.kernels.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    known = {_cache_dir(tmp_path, PYTHONPATH=str(tmp_path)).name}
    assert known == {kernel_sources_hash()[:32]}
    for file in (package / "kernels" / "rolling.py", package / "kernels" / "book" / "sides.py"):
        with file.open("a") as stream:
            stream.write("# edited\n")
        known.add(_cache_dir(tmp_path, PYTHONPATH=str(tmp_path)).name)
    assert len(known) == 3


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="another user"):
        private_folder(folder)


def test_a_home_that_cannot_be_made_falls_back_to_a_private_temporary_folder(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = _cache_dir(tmp_path, TAPELINE_HOME=str(blocked / "home"))
    assert found.name.startswith("tapeline-kernels-")
    assert found.stat().st_mode & 0o077 == 0
    found.rmdir()


def test_kernels_and_settings_find_the_same_data_folder_from_below(tmp_path: Path) -> None:
    home, below = tmp_path / ".tapeline", tmp_path / "feature_repo"
    home.mkdir()
    below.mkdir()
    code = "from tapeline.kernels import cache_folder; from tapeline.core.settings import Settings; "
    code += "print(cache_folder()); print(Settings().home_path)"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAPELINE_")}
    run = subprocess.run([sys.executable, "-c", code], cwd=below, env=kept, capture_output=True, text=True, check=True)
    kernels, settings = map(Path, run.stdout.split())
    assert settings == home
    assert kernels.is_relative_to(home)
    assert not (below / ".tapeline").exists()
