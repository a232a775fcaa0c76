//! The Grad-CAM plugin through the real shared library on ONNX classifiers: its maps are those of pytorch-grad-cam.

mod plugin_support;

use plugin_support::reference::compare;

#[test]
fn score_cam_of_onnx_classifiers_is_that_of_pytorch_grad_cam() {
    compare(&[("scorecam", "scorecam", false)], false);
}

#[test]
fn gradients_of_onnx_classifiers_give_the_maps_of_pytorch_grad_cam() {
    compare(
        &[
            ("gradcam", "gradcam", false),
            ("hirescam", "hirescam", false),
            ("gradcam++", "gradcampp", false),
            ("layercam", "layercam", false),
            ("eigencam", "eigencam", true),
            ("eigengradcam", "eigengradcam", true),
        ],
        false,
    );
}

#[test]
fn ablation_cam_of_onnx_classifiers_is_that_of_pytorch_grad_cam() {
    compare(&[("ablationcam", "ablationcam", false)], false);
}
