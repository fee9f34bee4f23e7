"""The custom runtime that mlserver needs for ONNX: same session options as Tapeline's server."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        values = NumpyCodec.decode_input(payload.inputs[0])
        outputs = self._session.run(["probability", "score"], {"features": values})
        encoded = [NumpyCodec.encode_output(n, v) for n, v in zip(("probability", "score"), outputs, strict=True)]
        return InferenceResponse(model_name=self.name, outputs=encoded)
