"""Write the Python stubs of the proto files into the client package: ``python proto/generate.py [FOLDER]``.

Needs grpcio-tools. The stubs are committed, so that neither users nor the server's image need a protobuf compiler; a test
compares them with what this script writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TARGET = ROOT.parent / "serving" / "tapeline_client" / "_generated"
PROTO = "tapeline/serving/v1/serving.proto"


def generate(target: Path) -> list[Path]:
    """Compile the proto file into ``target`` and return the files written.

    Messages only: the service is two unary methods, which the client and the server name themselves. protoc's service
    stubs would refuse every grpcio older than the compiler that wrote them.
    """
    import tempfile
    from importlib.resources import files

    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
        arguments += [f"--python_out={folder}", f"--pyi_out={folder}", PROTO]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed; see its message above")
        written = []
        target.mkdir(parents=True, exist_ok=True)
        for name in ("serving_pb2.py", "serving_pb2.pyi"):
            text = (Path(folder) / PROTO).with_name(name).read_text(encoding="utf-8")
            (target / name).write_text(text, encoding="utf-8")
            written.append(target / name)
    return written


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET):
        print(path)
