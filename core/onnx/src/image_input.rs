//! From images to a model's input array, and gradients back.

use crate::config::{InputSpec, Layout};
use crate::graph::{Dim, Model, Port, show_dims};
use crate::proto::data_type;
use shiftlens_api::{Error, Images, Result, resize};

/// A model's image input with all questions settled.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInput {
    /// Name of the graph's input.
    pub name: String,
    /// Axis order.
    pub layout: Layout,
    /// 1 or 3.
    pub channels: usize,
    /// `(H, W)`.
    pub size: (usize, usize),
    /// The batch that the graph is fixed to; `None` if it is free.
    pub batch: Option<usize>,
    scale: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
    filter: resize::Filter,
}

impl ImageInput {
    /// Settles what the manifest says and what the model declares; each thing that only one of them says, or that
    /// had to be guessed, adds a sentence to `inferred`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where they contradict each other, or neither says what is needed;
    /// [`Error::Unsupported`] for inputs other than `float32` images.
    pub fn resolve(model: &Model, spec: &InputSpec, inferred: &mut Vec<String>) -> Result<Self> {
        let file = model.name();
        let port = choose_port(&model.inputs(), spec.name.as_deref(), file, "input")?;
        if port.data_type != data_type::FLOAT {
            return Err(Error::Unsupported(format!(
                "{file}: input \"{}\" has ONNX data type {}, expected float32 (1); export the model with a float input",
                port.name, port.data_type
            )));
        }
        let unknown = || vec![Dim::Dynamic(String::new()); 4];
        let dims = port.dims.clone().unwrap_or_else(unknown);
        if dims.len() != 4 {
            return Err(Error::Unsupported(format!(
                "{file}: input \"{}\" has shape {}, expected a batch of images, [N, C, H, W] or [N, H, W, C]",
                port.name,
                show_dims(&dims)
            )));
        }
        let layout = resolve_layout(model, spec, &port.name, &dims, inferred)?;
        let (c_axis, h_axis, w_axis) = match layout {
            Layout::Nchw => (1, 2, 3),
            Layout::Nhwc => (3, 1, 2),
        };
        let settle = |what: &str, said: Option<usize>, declared: Option<usize>| -> Result<Option<usize>> {
            match (said, declared) {
                (Some(s), Some(d)) if s != d => Err(Error::Invalid(format!(
                    "{file}: the manifest says {what} = {s}, the model's input \"{}\" is declared as {} ({layout:?}); \
                     correct input.{what} or input.layout",
                    port.name,
                    show_dims(&dims)
                ))),
                (s, d) => Ok(s.or(d)),
            }
        };
        let channels = settle("channels", spec.channels, dims[c_axis].fixed())?;
        let height = settle("size", spec.size.map(|s| s[0]), dims[h_axis].fixed())?;
        let width = settle("size", spec.size.map(|s| s[1]), dims[w_axis].fixed())?;
        let channels = match channels.or_else(|| first_conv_channels(model, &port.name, layout)) {
            Some(c @ (1 | 3)) => c,
            Some(c) => {
                return Err(Error::Unsupported(format!(
                    "{file}: input \"{}\" takes {c} channels (shape {}, {layout:?}), expected 1 (grey) or 3 (RGB)",
                    port.name,
                    show_dims(&dims)
                )));
            }
            None => {
                return Err(Error::Invalid(format!(
                    "{file}: the model leaves its channels open; set input.channels"
                )));
            }
        };
        let size = match (height, width) {
            (Some(h), Some(w)) if h > 0 && w > 0 => (h, w),
            _ => {
                return Err(Error::Invalid(format!(
                    "{file}: the model leaves the size of its images open (input {}); set input.size = [H, W]",
                    show_dims(&dims)
                )));
            }
        };
        if spec.channels.is_none() {
            inferred.push(format!("input.channels = {channels}, read from the model"));
        }
        if spec.size.is_none() {
            inferred.push(format!("input.size = [{}, {}], read from the model", size.0, size.1));
        }
        if spec.scale.is_none() && spec.mean.is_empty() && spec.std.is_empty() {
            inferred
                .push("input.scale, mean and std are not given: the model is fed values in [0, 1]".into());
        }
        let batch = dims[0].fixed();
        if let Some(b) = batch {
            inferred.push(format!("the model's batch is fixed to {b}: the last batch is padded"));
        }
        let scale = spec.scale.unwrap_or(1.0);
        if !(scale.is_finite() && scale != 0.0) {
            return Err(Error::Invalid(format!(
                "{file}: input.scale = {scale}, expected a number other than 0"
            )));
        }
        Ok(Self {
            name: port.name,
            layout,
            channels,
            size,
            batch,
            scale,
            mean: per_channel(file, "mean", &spec.mean, channels, 0.0)?,
            std: per_channel(file, "std", &spec.std, channels, 1.0)?,
            filter: spec.resize,
        })
    }

    /// Refuses models that want more than the image.
    ///
    /// # Errors
    /// [`Error::Unsupported`] naming the other input.
    pub fn only_input(&self, model: &Model) -> Result<()> {
        match model.inputs().iter().find(|i| i.name != self.name) {
            None => Ok(()),
            Some(other) => Err(Error::Unsupported(format!(
                "{}: besides the image \"{}\" the model also wants an input \"{}\"; export it with the image alone",
                model.name(),
                self.name,
                other.name
            ))),
        }
    }

    /// Images per run: the model's fixed batch, else what the manifest says, else `default`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0 or a contradiction.
    pub fn batch_size(&self, file: &str, said: Option<usize>, default: usize) -> Result<usize> {
        match (said, self.batch) {
            (Some(0), _) => Err(Error::Invalid(format!("{file}: batch = 0, expected at least 1"))),
            (Some(said), Some(fixed)) if said != fixed => Err(Error::Invalid(format!(
                "{file}: the manifest says batch = {said}, the model's batch is fixed to {fixed}; leave batch out"
            ))),
            (said, fixed) => Ok(fixed.or(said).unwrap_or(default)),
        }
    }

    /// One grey image of the model's own size.
    ///
    /// # Errors
    /// None for a resolved input.
    pub fn grey(&self) -> Result<Images> {
        let (c, (h, w)) = (self.channels, self.size);
        Images::new([1, c, h, w], vec![0.5; c * h * w])
    }

    /// Shape of the model's input for a batch of `n`.
    pub fn shape(&self, n: usize) -> [usize; 4] {
        let (c, (h, w)) = (self.channels, self.size);
        match self.layout {
            Layout::Nchw => [n, c, h, w],
            Layout::Nhwc => [n, h, w, c],
        }
    }

    /// The input array for images of any size and channels, padded with copies of the last image to `n` images.
    ///
    /// # Errors
    /// None for images that passed [`Images::new`] and `n >= x.len() > 0`.
    pub fn prepare(&self, x: &Images, n: usize) -> Result<Vec<f32>> {
        let x = resize::images(&x.with_channels(self.channels)?, self.size, self.filter)?;
        Ok(self.normalise(x.as_slice(), n))
    }

    /// The input array for values `[N, C, H, W]` of the input's own size and channels, which may lie outside [0, 1]; padded
    /// with copies of the last image to `n` images.
    pub(crate) fn normalise(&self, x: &[f32], n: usize) -> Vec<f32> {
        let plane = self.size.0 * self.size.1;
        let c = self.channels;
        let mut out = Vec::with_capacity(n * c * plane);
        let last = (x.len() / (c * plane)).saturating_sub(1);
        for i in 0..n {
            let image = &x[i.min(last) * c * plane..][..c * plane];
            let value = |k: usize, p: usize| (image[k * plane + p] * self.scale - self.mean[k]) / self.std[k];
            match self.layout {
                Layout::Nchw => {
                    out.extend((0..c).flat_map(|k| (0..plane).map(move |p| (k, p))).map(|(k, p)| value(k, p)))
                }
                Layout::Nhwc => {
                    out.extend((0..plane).flat_map(|p| (0..c).map(move |k| (k, p))).map(|(k, p)| value(k, p)))
                }
            }
        }
        out
    }

    /// d/d(input array) to d/d(image value in [0, 1]), `[N, C, H, W]`: the chain rule through scale, std and layout.
    pub fn gradient_to_image(&self, gradient: &[f32]) -> Vec<f32> {
        let (c, plane) = (self.channels, self.size.0 * self.size.1);
        let mut out = vec![0.0; gradient.len()];
        for (i, g) in gradient.chunks_exact(c * plane).enumerate() {
            for k in 0..c {
                let factor = self.scale / self.std[k];
                for p in 0..plane {
                    let from = match self.layout {
                        Layout::Nchw => k * plane + p,
                        Layout::Nhwc => p * c + k,
                    };
                    out[i * c * plane + k * plane + p] = g[from] * factor;
                }
            }
        }
        out
    }
}

/// Height and width of a model's image input, where it declares them.
///
/// # Errors
/// [`Error::Invalid`] if input or layout cannot be told, [`Error::Unsupported`] for an input that is no batch of images.
pub(crate) fn declared_size(model: &Model, spec: &InputSpec) -> Result<[Option<usize>; 2]> {
    let port = choose_port(&model.inputs(), spec.name.as_deref(), model.name(), "input")?;
    let Some(dims) = port.dims else { return Ok([None, None]) };
    if dims.len() != 4 {
        return Err(Error::Unsupported(format!(
            "{}: input \"{}\" has shape {}, expected a batch of images, [N, C, H, W] or [N, H, W, C]",
            model.name(),
            port.name,
            show_dims(&dims)
        )));
    }
    let axes = match resolve_layout(model, spec, &port.name, &dims, &mut Vec::new())? {
        Layout::Nchw => [2, 3],
        Layout::Nhwc => [1, 2],
    };
    Ok(axes.map(|a| dims[a].fixed()))
}

/// The port called `name`, or the only one.
pub(crate) fn choose_port(ports: &[Port], name: Option<&str>, file: &str, kind: &str) -> Result<Port> {
    let names = || ports.iter().map(|p| format!("\"{}\"", p.name)).collect::<Vec<_>>().join(", ");
    match (name, ports) {
        (Some(n), _) => {
            ports.iter().find(|p| p.name == n).cloned().ok_or_else(|| {
                Error::Invalid(format!("{file}: no {kind} \"{n}\"; the model has {}", names()))
            })
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(Error::Invalid(format!("{file}: the model has no {kind}"))),
        (None, _) => Err(Error::Invalid(format!(
            "{file}: the model has {} {kind}s ({}); say which one in {kind}.name",
            ports.len(),
            names()
        ))),
    }
}

pub(crate) fn resolve_layout(
    model: &Model,
    spec: &InputSpec,
    input: &str,
    dims: &[Dim],
    inferred: &mut Vec<String>,
) -> Result<Layout> {
    if let Some(layout) = spec.layout {
        return Ok(layout);
    }
    let image_like = |d: &Dim| matches!(d.fixed(), Some(1 | 3));
    let shown = show_dims(dims);
    let (layout, why) = match (image_like(&dims[1]), image_like(&dims[3])) {
        (true, false) => (Layout::Nchw, format!("from the declared shape {shown}")),
        (false, true) => (Layout::Nhwc, format!("from the declared shape {shown}")),
        _ => {
            let first = model.graph().node.iter().find(|n| n.input.iter().any(|i| i == input));
            match first.map(|n| (n.op(), n.ints("perm"))) {
                Some(("Transpose", Some([0, 3, 1, 2]))) => {
                    (Layout::Nhwc, "because the model begins by moving the channels to the front".to_owned())
                }
                Some(("Conv", _)) => (Layout::Nchw, "because the model begins with a convolution".to_owned()),
                _ => {
                    return Err(Error::Invalid(format!(
                        "{}: input \"{input}\" is declared as {shown}, which does not tell the order of its axes; set \
                         input.layout to \"nchw\" or \"nhwc\"",
                        model.name()
                    )));
                }
            }
        }
    };
    let word = if layout == Layout::Nchw { "nchw" } else { "nhwc" };
    inferred.push(format!("input.layout = \"{word}\", {why}"));
    Ok(layout)
}

/// Channels that the first convolution takes, for models that leave them open.
pub(crate) fn first_conv_channels(model: &Model, input: &str, layout: Layout) -> Option<usize> {
    let graph = model.graph();
    let node = graph.node.iter().find(|n| n.op() == "Conv" && n.input_name(0) == Some(input))?;
    if layout != Layout::Nchw {
        return None;
    }
    let weight = graph.initializer.iter().find(|t| t.name.as_deref() == node.input_name(1))?;
    Some(*weight.dims.get(1)? as usize * node.int("group", 1) as usize)
}

fn per_channel(file: &str, what: &str, values: &[f32], channels: usize, default: f32) -> Result<Vec<f32>> {
    let out = match values {
        [] => vec![default; channels],
        [v] => vec![*v; channels],
        v if v.len() == channels => v.to_vec(),
        v => {
            return Err(Error::Invalid(format!(
                "{file}: input.{what} has {} values, expected 1 or one for each of {channels} channels",
                v.len()
            )));
        }
    };
    if out.iter().any(|v| !v.is_finite() || (what == "std" && *v == 0.0)) {
        return Err(Error::Invalid(format!(
            "{file}: input.{what} = {values:?}, expected finite numbers, std not 0"
        )));
    }
    Ok(out)
}
