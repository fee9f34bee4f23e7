from __future__ import annotations

import shutil

import pytest
from tapeline.core.errors import IntegrityError, ParameterError
from tapeline.registry.store import FolderStore, RemoteStore, open_store

from tests.registry.bundles import make_bundle


@pytest.fixture(params=["folder", "remote"])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(tmp_path / "store")
    return open_store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")


def test_kinds(tmp_path):
    assert isinstance(open_store(f"file://{tmp_path}"), FolderStore)
    assert isinstance(open_store("memory://kinds", cache=tmp_path), RemoteStore)


def test_put_then_fetch(store, tmp_path):
    manifest = make_bundle(tmp_path / "b")
    assert store.put(tmp_path / "b") == manifest.address
    assert store.put(tmp_path / "b") == manifest.address
    fetched = store.fetch(manifest.address)
    assert fetched.name == manifest.address
    assert (fetched / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_what_is_not_there(store):
    with pytest.raises(IntegrityError, match="not in the store"):
        store.fetch("0" * 64)


@pytest.mark.parametrize("address", ["../../etc", "A" * 64, ""])
def test_an_address_is_never_a_path(store, address):
    with pytest.raises(ParameterError, match="SHA-256"):
        store.fetch(address)


def test_a_corrupted_artifact_is_refused(store, tmp_path):
    address = make_bundle(tmp_path / "b").address
    store.put(tmp_path / "b")
    path = store.fetch(address) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        store.fetch(address)


def test_a_corrupted_remote_never_reaches_the_cache(tmp_path):
    store = RemoteStore(f"memory://{tmp_path.name}", tmp_path / "cache")
    address = make_bundle(tmp_path / "b").address
    store.put(tmp_path / "b")
    shutil.rmtree(tmp_path / "cache")
    store._files.pipe_file(f"{store._remote(address)}/model.onnx", b"other bytes")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        store.fetch(address)
    assert not (tmp_path / "cache" / address[:2]).exists()


def test_an_altered_bundle_is_not_put(store, tmp_path):
    make_bundle(tmp_path / "b")
    (tmp_path / "b" / "sample.npz").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"sample\.npz"):
        store.put(tmp_path / "b")
