//! ONNX graphs: read, edit, differentiate, run.
