//! What a classifier's file says about its input and outputs, before a manifest says anything and anything is run.

use crate::config::{InputSpec, Layout};
use crate::graph::{Model, show_dims};
use crate::image_input::{choose_port, first_conv_channels, resolve_layout};
use shiftlens_api::{Error, Result};
use std::path::Path;

/// A classifier's image input and its outputs, as they are declared. `None` is what the file leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Name of the image input.
    pub input: String,
    /// Its shape, as in `[batch, 3, 224, 224]`.
    pub shape: String,
    /// Axis order.
    pub layout: Option<Layout>,
    /// Channels, 1 or 3 for what can be explained.
    pub channels: Option<usize>,
    /// Height and width in pixels.
    pub size: [Option<usize>; 2],
    /// Names of the outputs, and their shapes.
    pub outputs: Vec<(String, String)>,
}

impl Declared {
    /// Reads the model at `path`; `layout` is the axis order where it is known from elsewhere.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] for what is no ONNX model or has several inputs, [`Error::Unsupported`] for an
    /// input that is no batch of images.
    pub fn read(path: &Path, layout: Option<Layout>) -> Result<Self> {
        let model = Model::load(path, None)?;
        let file = model.name();
        let port = choose_port(&model.inputs(), None, file, "input")?;
        let show = |dims: &Option<Vec<_>>| dims.as_deref().map_or("not declared".into(), show_dims);
        if let Some(dims) = port.dims.as_ref().filter(|d| d.len() != 4) {
            return Err(Error::Unsupported(format!(
                "{file}: input \"{}\" has shape {}, expected a batch of images, [N, C, H, W] or [N, H, W, C]",
                port.name,
                show_dims(dims)
            )));
        }
        // What cannot be told is left open here, and an error only where a manifest says nothing either.
        let spec = InputSpec { layout, ..InputSpec::default() };
        let told = port
            .dims
            .as_ref()
            .and_then(|dims| resolve_layout(&model, &spec, &port.name, dims, &mut Vec::new()).ok());
        let layout = layout.or(told);
        let axis = |nchw: usize, nhwc: usize| {
            let place = match layout? {
                Layout::Nchw => nchw,
                Layout::Nhwc => nhwc,
            };
            port.dims.as_ref()?[place].fixed()
        };
        let by_weight = || first_conv_channels(&model, &port.name, layout?);
        Ok(Self {
            channels: axis(1, 3).or_else(by_weight),
            size: [axis(2, 1), axis(3, 2)],
            shape: show(&port.dims),
            layout,
            outputs: model.outputs().iter().map(|o| (o.name.clone(), show(&o.dims))).collect(),
            input: port.name,
        })
    }
}
