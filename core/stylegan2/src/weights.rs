//! Named parameters: made at random, read from a file, trained, frozen.

use crate::rng::Rng;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation.
    Normal(f32),
    /// All the same.
    Constant(f32),
}

/// Trainable or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trained.
    Parameter,
    /// Stored with the network but not trained: constant noise, the mean of w.
    Buffer,
}

enum Source {
    Random(Box<RefCell<Rng>>),
    Stored(HashMap<String, Tensor>),
}

/// Where a network takes its tensors from; it remembers each under its full name.
///
/// Tensors of a [`Weights`] made by [`Weights::random`] or [`Weights::trainable`] are candle variables.
#[derive(Clone)]
pub struct Weights {
    source: Rc<Source>,
    taken: Rc<RefCell<BTreeMap<String, (Tensor, Role)>>>,
    vars: Rc<RefCell<BTreeMap<String, Var>>>,
    train: bool,
    device: Device,
    prefix: String,
}

impl Weights {
    fn with(source: Source, train: bool, device: &Device) -> Self {
        Self {
            source: Rc::new(source),
            taken: Rc::default(),
            vars: Rc::default(),
            train,
            device: device.clone(),
            prefix: String::new(),
        }
    }
    /// New trainable parameters, drawn from `seed`.
    pub fn random(seed: u64, device: &Device) -> Self {
        Self::with(Source::Random(Box::new(RefCell::new(Rng::new(seed, u64::MAX)))), true, device)
    }
    /// Stored tensors, frozen.
    pub fn frozen(tensors: HashMap<String, Tensor>, device: &Device) -> Self {
        Self::with(Source::Stored(tensors), false, device)
    }
    /// Stored tensors, trainable.
    pub fn trainable(tensors: HashMap<String, Tensor>, device: &Device) -> Self {
        Self::with(Source::Stored(tensors), true, device)
    }
    /// The same storage without gradients: a network made from it sees every later update of the variables.
    pub fn detached(&self) -> Self {
        let tensors = self.taken.borrow().iter().map(|(k, (t, _))| (k.clone(), t.detach())).collect();
        Self::with(Source::Stored(tensors), false, &self.device)
    }
    /// The part whose names begin with `name.`.
    pub fn at(&self, name: impl AsRef<str>) -> Self {
        Self { prefix: format!("{}{}.", self.prefix, name.as_ref()), ..self.clone() }
    }
    /// The device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tensor `name` of `shape`.
    ///
    /// # Errors
    /// If a stored tensor is missing or of another shape; the message names it.
    pub fn get(&self, name: &str, shape: &[usize], init: Init, role: Role) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let tensor = match &*self.source {
            Source::Random(rng) => {
                let n = shape.iter().product();
                let values = match init {
                    Init::Normal(std) => rng.borrow_mut().normals(n).iter().map(|v| v * std).collect(),
                    Init::Constant(v) => vec![v; n],
                };
                Tensor::from_vec(values, shape, &self.device)?
            }
            Source::Stored(map) => match map.get(&name) {
                None => bail!("tensor `{name}` {shape:?} is missing"),
                Some(t) if t.dims() != shape => {
                    bail!("tensor `{name}`: expected shape {shape:?}, found {:?}", t.dims())
                }
                // Training and frozen views of one network share storage: no copy unless something must change.
                Some(t) if t.dtype() == DType::F32 && t.device().same_device(&self.device) => t.clone(),
                Some(t) => t.to_device(&self.device)?.to_dtype(DType::F32)?.contiguous()?,
            },
        };
        let tensor = if self.train && role == Role::Parameter {
            let var = Var::from_tensor(&tensor)?;
            let tensor = var.as_tensor().clone();
            self.vars.borrow_mut().insert(name.clone(), var);
            tensor
        } else {
            tensor
        };
        self.taken.borrow_mut().insert(name, (tensor.clone(), role));
        Ok(tensor)
    }

    /// Trainable variables by name, in name order.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.vars.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// All tensors that networks have taken, by name.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.taken.borrow().iter().map(|(k, (t, _))| (k.clone(), t.clone())).collect()
    }
}
