//! As `plugin_cam_onnx`, on the embedded backend, which a process chooses once.

mod plugin_support;

use plugin_support::reference::compare;
use shiftlens_onnx::Choice;

#[test]
fn maps_on_the_embedded_backend_are_those_of_pytorch_grad_cam() {
    let name = shiftlens_onnx::backend::init(Choice::Embedded).unwrap();
    assert!(name.contains("tract"), "{name}");
    compare(
        &[
            ("gradcam", "gradcam", false),
            ("layercam", "layercam", false),
            ("eigencam", "eigencam", true),
            ("ablationcam", "ablationcam", false),
        ],
        true,
    );
}
