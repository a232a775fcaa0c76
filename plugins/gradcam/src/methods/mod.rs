//! One file per member of the family.

mod ablation_cam;
mod eigen_cam;
mod eigen_grad_cam;
mod finer_cam;
mod grad_cam;
mod grad_cam_plus_plus;
mod hires_cam;
mod layer_cam;
mod score_cam;
mod x_grad_cam;

pub use ablation_cam::AblationCam;
pub use eigen_cam::EigenCam;
pub use eigen_grad_cam::EigenGradCam;
pub use finer_cam::FinerCam;
pub use grad_cam::GradCam;
pub use grad_cam_plus_plus::GradCamPlusPlus;
pub use hires_cam::HiResCam;
pub use layer_cam::LayerCam;
pub use score_cam::ScoreCam;
pub use x_grad_cam::XGradCam;
