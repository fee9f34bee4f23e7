from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
from pydantic import ValidationError
from tapeline.core.errors import IntegrityError, LimitError, ParameterError, ParityError
from tapeline.registry import bundle as bundle_module
from tapeline.registry import read_manifest, replay_bundle, verify_bundle
from tapeline.registry.manifest import BundleManifest

from tests.registry.bundles import linear_model, make_bundle, make_manifest, make_sample


def test_a_written_bundle_verifies_and_replays(tmp_path):
    manifest = make_bundle(tmp_path / "b")
    assert verify_bundle(tmp_path / "b", address=manifest.address) == manifest
    replay_bundle(tmp_path / "b", manifest)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"]


def test_the_same_content_has_the_same_address(tmp_path):
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b")
    assert first.address == second.address
    other = make_bundle(tmp_path / "c", weights=(0.5, -0.31))
    assert other.address != first.address


@pytest.mark.parametrize("name", ["model.onnx", "sample.npz"])
def test_one_flipped_bit_is_found(tmp_path, name):
    make_bundle(tmp_path / "b")
    path = tmp_path / "b" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=name):
        verify_bundle(tmp_path / "b")


def test_an_altered_manifest_is_not_the_one_of_its_address(tmp_path):
    address = make_bundle(tmp_path / "b").address
    path = tmp_path / "b" / "manifest.json"
    path.write_text(path.read_text().replace("daily_model", "other_model"))
    with pytest.raises(IntegrityError, match=address):
        verify_bundle(tmp_path / "b", address=address)


def test_missing_and_strange_files_are_found(tmp_path):
    make_bundle(tmp_path / "b")
    (tmp_path / "b" / "extra.py").write_text("print()")
    with pytest.raises(IntegrityError, match=r"extra\.py"):
        verify_bundle(tmp_path / "b")
    (tmp_path / "b" / "extra.py").unlink()
    (tmp_path / "b" / "model.onnx").unlink()
    with pytest.raises(IntegrityError, match=r"lacks model\.onnx"):
        verify_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"features": []}, "features"),
        ({"files": {"../evil": "0" * 64}}, "files"),
        ({"files": {"model.onnx": "0" * 64}}, "sample"),
        ({"format": 2}, "format"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"dataset_sha256": "xyz"}, "dataset_sha256"),
    ],
)
def test_a_malformed_manifest_names_its_fault(tmp_path, change, fault):
    make_bundle(tmp_path / "b")
    path = tmp_path / "b" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IntegrityError, match=fault):
        read_manifest(tmp_path / "b")


def test_sessions_must_be_in_order():
    fields = make_manifest().model_dump()
    fields["views"][0]["sessions"] = {"calendar": "XNYS", "open_us": [1, 2], "close_us": [5, 4]}
    with pytest.raises(ValidationError, match="not increasing"):
        BundleManifest.model_validate(fields)


def test_nothing_is_unpickled(tmp_path):
    manifest = make_bundle(tmp_path / "b")
    buffer = io.BytesIO()
    np.savez(buffer, features=np.array([object()], dtype=object), probability=[1.0], score=[1.0])
    (tmp_path / "b" / "sample.npz").write_bytes(buffer.getvalue())
    with pytest.raises(IntegrityError, match="sample"):
        replay_bundle(tmp_path / "b", manifest)
    (tmp_path / "b" / "sample.npz").write_bytes(pickle.dumps({"features": 1}))
    with pytest.raises(IntegrityError, match="sample"):
        replay_bundle(tmp_path / "b", manifest)


def test_a_model_that_does_not_give_its_sample_is_refused(tmp_path):
    manifest = make_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.onnx").write_bytes(linear_model([0.5, -0.3001]))
    with pytest.raises(ParityError, match=r"score|probability"):
        replay_bundle(tmp_path / "b", manifest)


def test_a_model_of_another_width_is_refused(tmp_path):
    manifest = make_bundle(tmp_path / "b")
    model = linear_model([0.5, -0.3, 0.1])
    (tmp_path / "b" / "model.onnx").write_bytes(model)
    with pytest.raises(IntegrityError, match="takes"):
        replay_bundle(tmp_path / "b", manifest)
    (tmp_path / "b" / "model.onnx").write_bytes(b"not onnx")
    with pytest.raises(IntegrityError, match="cannot load"):
        replay_bundle(tmp_path / "b", manifest)


def test_a_sample_file_is_the_same_for_the_same_arrays():
    model = linear_model([0.5, -0.3])
    assert make_sample(model, 2).to_bytes() == make_sample(model, 2).to_bytes()


def test_the_size_limit_holds_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "BUNDLE_BYTES_MAX", 100)
    with pytest.raises(LimitError, match="MB"):
        make_bundle(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(ParameterError, match="exists"):
        make_bundle(tmp_path / "b")
